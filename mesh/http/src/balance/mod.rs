//! Which endpoint of a cluster a request goes to. The caller owns the endpoints and what is counted of them; a [`Balancer`] is made anew
//! when they change or their health does.
//!
//! Health first: [`health`] says which endpoints count, then the policy chooses among them: in turn ([`turns`]), the least busy of two,
//! by chance, or by a hash of the request ([`ring`], [`maglev`]). Where localities have weights, the locality is drawn first ([`locality`]). [`slow_start`] lets new endpoints begin with less, [`outlier`] takes
//! endpoints out that fail, and [`latency`] makes slow ones busier than their requests alone.

mod endpoint;
mod health;
mod latency;
mod locality;
mod maglev;
pub mod outlier;
mod ring;
mod slow_start;
mod turns;

use std::time::Instant;

pub use endpoint::{Endpoint, Health};
use health::Levels;
pub use latency::PeakEwma;
use locality::Localities;
use maglev::Maglev;
pub use maglev::is_table_size;
use ring::Ring;
pub use slow_start::SlowStart;
use slow_start::Warming;
use turns::Turns;

/// How a cluster chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// In turn.
    RoundRobin,
    /// The least busy of so many draws, at least 2.
    LeastRequest {
        /// Draws, with replacement.
        choices: u32,
    },
    /// By chance.
    Random,
    /// By the request's hash, on a ring.
    RingHash {
        /// Points on the ring, at least.
        minimum: u64,
        /// Points on the ring, at most.
        maximum: u64,
    },
    /// By the request's hash, in a table of this size, a prime number ([`is_table_size`]): 65537 by default.
    Maglev {
        /// Entries of the table.
        size: u64,
    },
}

/// Chooses among endpoints.
#[derive(Debug)]
pub struct Balancer {
    levels: Levels,
    /// What is chosen among in each level.
    choosers: Vec<Choosers>,
}

/// One for each locality of a level, by whose weight it is drawn; one alone where localities do not count.
#[derive(Debug)]
struct Choosers {
    all: Vec<Chooser>,
    weights: Localities,
}

/// What a balancer is made with, beside the endpoints.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// How it chooses.
    pub policy: Policy,
    /// In percent: below that share of healthy endpoints all are used, 0 is never.
    pub panic_threshold: u32,
    /// How new endpoints begin: in turn and by load alone, as with Envoy.
    pub slow_start: Option<SlowStart>,
    /// The weights of localities, by [`Endpoint::locality`]; none where they do not count.
    pub localities: Option<&'a [u32]>,
}

#[derive(Debug)]
struct Chooser {
    /// Indices into the caller's endpoints.
    members: Vec<usize>,
    kind: Kind,
    /// For as long as some of them are new.
    warming: Option<Warming>,
}

#[derive(Debug)]
enum Kind {
    RoundRobin(Turns),
    LeastRequest { choices: u32, weights: Option<Turns> },
    Random { upto: Vec<u64> },
    Ring(Ring),
    Maglev(Maglev),
}

/// What a choice is made by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Draw {
    /// The request's hash, for policies of the hashing kind: without one, chance decides.
    pub hash: Option<u64>,
    /// A random number.
    pub random: u64,
}

impl Balancer {
    /// A balancer over these endpoints. `panic_threshold` is in percent: below that share of healthy endpoints all are used, 0 is never.
    pub fn new(policy: Policy, endpoints: &[Endpoint], panic_threshold: u32) -> Self {
        let settings = Settings {
            policy,
            panic_threshold,
            slow_start: None,
            localities: None,
        };
        Self::with(&settings, endpoints, Instant::now())
    }

    /// The same with all settings.
    pub fn with(settings: &Settings<'_>, endpoints: &[Endpoint], now: Instant) -> Self {
        let levels = Levels::new(endpoints, settings.panic_threshold);
        let choosers = (0..levels.count())
            .map(|level| {
                let members = levels.members(level);
                // In panic health counts for nothing, and neither do localities.
                let weights = settings.localities.filter(|_| !levels.is_panic(level));
                Choosers::new(settings, endpoints, members, weights, now)
            })
            .collect();
        Self { levels, choosers }
    }

    /// The index of an endpoint. `busy` says how busy an endpoint is: the number of requests under way, or a cost. None where there is none to choose: that
    /// is 503 `no healthy upstream`, flag `UH`.
    pub fn pick(&self, draw: Draw, busy: impl Fn(usize) -> u64) -> Option<usize> {
        self.pick_beyond(draw, &busy, &[])
    }

    fn pick_beyond(&self, draw: Draw, busy: &impl Fn(usize) -> u64, priorities: &[u32]) -> Option<usize> {
        let number = draw.hash.unwrap_or(draw.random);
        let level = self.levels.choose_beyond(number, priorities)?;
        self.choosers[level].pick(draw, busy)
    }

    /// The same for a retry: draws again, at most `reselections` times, until `tried` does not say that the endpoint was tried. Keeps the
    /// last one if all were. `priorities` are left out while others can carry anything.
    pub fn pick_other(
        &self,
        draw: Draw,
        busy: impl Fn(usize) -> u64,
        reselections: u32,
        tried: impl Fn(usize) -> bool,
        priorities: &[u32],
    ) -> Option<usize> {
        let mut random = draw.random;
        let mut picked = self.pick_beyond(draw, &busy, priorities)?;
        for attempt in 0..u64::from(reselections) {
            if !tried(picked) {
                break;
            }
            random = mix(random.wrapping_add(attempt));
            // A hash leads to the same endpoint again: another point of the ring is taken instead.
            let hash = draw.hash.map(|hash| hash ^ random);
            picked = self.pick_beyond(Draw { hash, random }, &busy, priorities)?;
        }
        Some(picked)
    }
}

impl Choosers {
    fn new(
        settings: &Settings<'_>,
        endpoints: &[Endpoint],
        members: Vec<usize>,
        localities: Option<&[u32]>,
        now: Instant,
    ) -> Self {
        let weight = |index: &usize| u64::from(endpoints[*index].weight.max(1));
        let plain = |members: &[usize]| members.iter().map(weight).collect();
        let Some(localities) = localities else {
            return Self {
                all: vec![Chooser::new(settings, endpoints, plain(&members), members, now)],
                weights: Localities::default(),
            };
        };
        let found = Localities::new(endpoints, &members, localities);
        if matches!(settings.policy, Policy::RingHash { .. } | Policy::Maglev { .. }) {
            // A hash leads to one endpoint whatever chance says: localities weigh in the one ring or table.
            let (members, weights) = found.flattened(endpoints);
            return Self {
                all: vec![Chooser::new(settings, endpoints, weights, members, now)],
                weights: Localities::default(),
            };
        }
        let all = found
            .members()
            .map(|members| Chooser::new(settings, endpoints, plain(members), members.to_vec(), now));
        Self {
            all: all.collect(),
            weights: found,
        }
    }

    fn pick(&self, draw: Draw, busy: &impl Fn(usize) -> u64) -> Option<usize> {
        // Another number than the one by which an endpoint is drawn.
        self.all.get(self.weights.choose(mix(!draw.random)))?.pick(draw, busy)
    }
}

impl Chooser {
    /// `weights` are those of the members, each above 0.
    fn new(
        settings: &Settings<'_>,
        endpoints: &[Endpoint],
        weights: Vec<u64>,
        members: Vec<usize>,
        now: Instant,
    ) -> Self {
        let (policy, slow_start) = (settings.policy, settings.slow_start);
        let keys: Vec<&str> = members
            .iter()
            .map(|index| endpoints[*index].hash_key.as_str())
            .collect();
        let equal = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let kind = match policy {
            Policy::RoundRobin => Kind::RoundRobin(Turns::new(&weights)),
            Policy::LeastRequest { choices } => Kind::LeastRequest {
                choices: choices.max(2),
                weights: (!equal).then(|| Turns::new(&weights)),
            },
            Policy::Random => Kind::Random {
                upto: weights
                    .iter()
                    .scan(0, |sum, weight| {
                        *sum += weight;
                        Some(*sum)
                    })
                    .collect(),
            },
            Policy::RingHash { minimum, maximum } => Kind::Ring(Ring::new(&keys, &weights, minimum, maximum)),
            Policy::Maglev { size } => Kind::Maglev(Maglev::new(&keys, &weights, size)),
        };
        let warming = match policy {
            Policy::RoundRobin | Policy::LeastRequest { .. } => slow_start.and_then(|slow_start| {
                let since = members.iter().map(|index| endpoints[*index].since).collect();
                Warming::new(slow_start, &weights, since, now)
            }),
            Policy::Random | Policy::RingHash { .. } | Policy::Maglev { .. } => None,
        };
        Self { members, kind, warming }
    }

    fn pick(&self, draw: Draw, busy: &impl Fn(usize) -> u64) -> Option<usize> {
        if self.members.is_empty() {
            return None;
        }
        let count = self.members.len() as u64;
        // With weights, Envoy takes turns in which a busy endpoint weighs less, instead of two draws.
        let idleness = |member: usize| 1.0 / (busy(self.members[member]).saturating_add(1)) as f64;
        if let Some(warming) = &self.warming
            && let now = Instant::now()
            && now < warming.until()
        {
            let member = match &self.kind {
                Kind::LeastRequest { .. } => warming.next(now, draw.random, idleness),
                _ => warming.next(now, draw.random, |_| 1.0),
            };
            return self.members.get(member).copied();
        }
        let member = match &self.kind {
            Kind::RoundRobin(turns) => turns.next(draw.random, |_| 1.0),
            Kind::LeastRequest {
                weights: Some(turns), ..
            } => turns.next(draw.random, idleness),
            Kind::LeastRequest { choices, weights: None } => {
                let mut random = draw.random;
                let mut best: Option<(u64, usize)> = None;
                for _ in 0..*choices {
                    let member = usize::try_from(random % count).unwrap_or_default();
                    let load = busy(self.members[member]);
                    if best.is_none_or(|(least, _)| load < least) {
                        best = Some((load, member));
                    }
                    random = mix(random);
                }
                best?.1
            }
            Kind::Random { upto } => {
                let at = draw.random % upto.last()?;
                upto.partition_point(|upto| *upto <= at)
            }
            Kind::Ring(ring) => ring.member(draw.hash.unwrap_or(draw.random))?,
            Kind::Maglev(maglev) => maglev.member(draw.hash.unwrap_or(draw.random))?,
        };
        self.members.get(member).copied()
    }
}

/// Another random number out of one: the finalizer of SplitMix64.
fn mix(random: u64) -> u64 {
    let mut mixed = random.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
