//! How many connections to tunnel ports are let in: each costs a key exchange and a signature before it is known who it is.
//!
//! Two token buckets. One for each source, so that one stranger is refused and others are not; one for each listener, so
//! that a pod that is dialled by many is slower to reach and other pods are not. Peers share tunnels, so both are far
//! above what they need.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

/// Sources that are remembered one by one. Those beyond share a bucket.
const SOURCES: usize = 4096;

/// So many in the long run, and so many at once after a pause.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// In the long run.
    pub per_second: u32,
    /// At once, after a pause.
    pub burst: u32,
}

/// What is let in.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionConfig {
    /// Tunnels from one source, on all listeners of a thread. More are reset.
    pub source: Rate,
    /// Tunnels on one listener of a thread. More wait in its backlog.
    pub listener: Rate,
    /// Lines in the logs about tunnels that were refused, and about peers that misbehave. More are counted.
    pub refusal_lines: Rate,
    /// Peers of a thread that have proved nothing yet, beyond which those that keep a handshake waiting are given up.
    pub unproven: usize,
    /// Accepted tunnels of a thread that carry nothing, beyond which those that have been idle longest are closed.
    pub idle: usize,
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        let rate = |per_second, burst| Rate { per_second, burst };
        Self {
            source: rate(50, 200),
            listener: rate(500, 1000),
            refusal_lines: rate(5, 20),
            unproven: 1024,
            idle: 4096,
        }
    }
}

/// A token bucket.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// With the whole burst in it.
    pub fn full(rate: Rate, now: Instant) -> Self {
        Self {
            tokens: f64::from(rate.burst),
            filled: now,
        }
    }

    fn fill(&mut self, rate: Rate, now: Instant) {
        let passed: Duration = now.saturating_duration_since(self.filled);
        self.tokens = (self.tokens + passed.as_secs_f64() * f64::from(rate.per_second)).min(f64::from(rate.burst));
        self.filled = self.filled.max(now);
    }

    /// Whether [`Bucket::take`] would succeed.
    pub fn has_token(&mut self, rate: Rate, now: Instant) -> bool {
        self.fill(rate, now);
        self.tokens >= 1.0
    }

    /// Takes one out, if there is one.
    pub fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let has = self.has_token(rate, now);
        if has {
            self.tokens -= 1.0;
        }
        has
    }
}

/// The buckets of sources.
#[derive(Debug)]
pub struct Sources {
    rate: Rate,
    buckets: FxHashMap<IpAddr, Bucket>,
    others: Bucket,
}

impl Sources {
    /// Nobody seen yet.
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            buckets: FxHashMap::default(),
            others: Bucket::full(rate, now),
        }
    }

    /// Whether one more from this source is let in.
    pub fn admit(&mut self, source: IpAddr, now: Instant) -> bool {
        let source = network(source);
        if !self.buckets.contains_key(&source) && self.buckets.len() >= SOURCES {
            return self.others.take(self.rate, now);
        }
        let bucket = self
            .buckets
            .entry(source)
            .or_insert_with(|| Bucket::full(self.rate, now));
        bucket.take(self.rate, now)
    }

    /// Forgets sources that have been quiet: a new bucket would be as full.
    pub fn sweep(&mut self, now: Instant) {
        let (rate, full) = (self.rate, f64::from(self.rate.burst));
        self.buckets.retain(|_, bucket| {
            bucket.fill(rate, now);
            bucket.tokens < full
        });
    }
}

/// Whoever has one address of an IPv6 network has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !(u128::MAX >> 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 10,
        burst: 5,
    };

    #[test]
    fn a_source_is_refused_beyond_its_rate_and_others_are_not() {
        let begin = Instant::now();
        let mut sources = Sources::new(RATE, begin);
        let [loud, other]: [IpAddr; 2] = [[198, 18, 0, 1].into(), [198, 18, 0, 2].into()];
        let admitted = (0..100).filter(|_| sources.admit(loud, begin)).count();
        assert_eq!(admitted, 5);
        assert!(sources.admit(other, begin));
        let later = begin + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| sources.admit(loud, later)).count(), 5);
        sources.sweep(later);
        assert_eq!(sources.buckets.len(), 1, "only the loud one's is not full");
    }

    #[test]
    fn addresses_of_one_network_count_together_and_memory_is_bounded() {
        let begin = Instant::now();
        let mut sources = Sources::new(RATE, begin);
        let one = |host: u128| IpAddr::from(Ipv6Addr::from_bits(0xfd00_c01e << 96 | host));
        assert_eq!((0..100).filter(|host| sources.admit(one(*host), begin)).count(), 5);
        let many = (0..3 * SOURCES as u32).map(|host| IpAddr::from((0xc612_0000 + host).to_be_bytes()));
        let admitted = many.filter(|source| sources.admit(*source, begin)).count();
        assert_eq!(sources.buckets.len(), SOURCES);
        assert_eq!(admitted, SOURCES - 1 + 5, "the rest shares a bucket");
    }
}
