//! Which endpoint of a cluster a request goes to. The caller owns the endpoints and what is counted of them; a [`Balancer`] is made anew
//! when they change or their health does.
//!
//! Health first: [`health`] says which endpoints count, then the policy chooses among them: in turn ([`turns`]), the least busy of two,
//! by chance, or by a hash of the request ([`ring`], [`maglev`]). [`outlier`] takes endpoints out that fail.

mod endpoint;
mod health;
mod maglev;
pub mod outlier;
mod ring;
mod turns;

use std::sync::atomic::{AtomicU32, Ordering};

pub use endpoint::{Endpoint, Health};
use health::Levels;
use maglev::Maglev;
use ring::Ring;
use turns::Turns;

/// How a cluster chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// In turn.
    RoundRobin,
    /// The less busy of so many draws, at least 2.
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
    /// By the request's hash, in a table of this size, a prime number: 65537 by default.
    Maglev {
        /// Entries of the table.
        size: u64,
    },
}

/// Chooses among endpoints.
#[derive(Debug)]
pub struct Balancer {
    levels: Levels,
    /// A chooser for each priority, among those that count there.
    choosers: Vec<Chooser>,
}

#[derive(Debug)]
struct Chooser {
    /// Indices into the caller's endpoints.
    members: Vec<usize>,
    kind: Kind,
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
        let levels = Levels::new(endpoints, panic_threshold);
        let choosers = (0..levels.count())
            .map(|level| Chooser::new(policy, endpoints, levels.members(level)))
            .collect();
        Self { levels, choosers }
    }

    /// The index of an endpoint. `active` gives the number of requests under way at an endpoint. None where there is none to choose: that
    /// is 503 `no healthy upstream`, flag `UH`.
    pub fn pick<'a>(&self, draw: Draw, active: impl Fn(usize) -> &'a AtomicU32) -> Option<usize> {
        let chooser = &self.choosers[self.levels.choose(draw.hash.unwrap_or(draw.random))?];
        chooser.pick(draw, &active)
    }

    /// The same for a retry: draws again, at most `reselections` times, until `tried` does not say that the endpoint was tried. Keeps the
    /// last one if all were.
    pub fn pick_other<'a>(
        &self,
        draw: Draw,
        active: impl Fn(usize) -> &'a AtomicU32,
        reselections: u32,
        tried: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut random = draw.random;
        let mut picked = self.pick(draw, &active)?;
        for attempt in 0..u64::from(reselections) {
            if !tried(picked) {
                break;
            }
            random = mix(random.wrapping_add(attempt));
            // A hash leads to the same endpoint again: another point of the ring is taken instead.
            let hash = draw.hash.map(|hash| hash ^ random);
            picked = self.pick(Draw { hash, random }, &active)?;
        }
        Some(picked)
    }
}

impl Chooser {
    fn new(policy: Policy, endpoints: &[Endpoint], members: Vec<usize>) -> Self {
        let weights: Vec<u64> = members
            .iter()
            .map(|index| u64::from(endpoints[*index].weight.max(1)))
            .collect();
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
        Self { members, kind }
    }

    fn pick<'a>(&self, draw: Draw, active: &impl Fn(usize) -> &'a AtomicU32) -> Option<usize> {
        if self.members.is_empty() {
            return None;
        }
        let count = self.members.len() as u64;
        let member = match &self.kind {
            Kind::RoundRobin(turns) => turns.next(|_| 1.0),
            // With weights, Envoy takes turns in which a busy endpoint weighs less, instead of two draws.
            Kind::LeastRequest {
                weights: Some(turns), ..
            } => turns.next(|member| 1.0 / f64::from(load(active(self.members[member])) + 1)),
            Kind::LeastRequest { choices, weights: None } => {
                let mut random = draw.random;
                let mut best: Option<(u32, usize)> = None;
                for _ in 0..*choices {
                    let member = usize::try_from(random % count).unwrap_or_default();
                    let busy = load(active(self.members[member]));
                    if best.is_none_or(|(least, _)| busy < least) {
                        best = Some((busy, member));
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

fn load(active: &AtomicU32) -> u32 {
    active.load(Ordering::Relaxed)
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
