//! Peak EWMA: how long an endpoint takes to answer. A slower answer than thought counts at once, faster ones by and by, and what is not heard
//! of again is forgotten.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is thought of an endpoint that has not answered yet.
const UNKNOWN: Duration = Duration::from_millis(30);

/// After this time what was seen counts a third.
const DECAY: Duration = Duration::from_secs(10);

/// How long one endpoint takes. Times are since any one instant that the caller keeps to.
#[derive(Debug)]
pub struct PeakEwma {
    /// Microseconds as an `f32`, and below them when that was, in milliseconds.
    state: AtomicU64,
}

impl Default for PeakEwma {
    fn default() -> Self {
        Self {
            state: AtomicU64::new(pack(UNKNOWN.as_micros() as f32, 0)),
        }
    }
}

impl PeakEwma {
    /// Takes note of an answer that took so long.
    pub fn observe(&self, now: Duration, took: Duration) {
        let took = took.as_micros() as f32;
        let observed = |state: u64| {
            let (known, then) = unpack(state);
            let kept = decay(now, then);
            let next = if took > known {
                took
            } else {
                known * kept + took * (1.0 - kept)
            };
            Some(pack(next, millis(now).max(then)))
        };
        // It never gives up: there is always a next one.
        let _ = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, observed);
    }

    /// What another request costs, where `active` are under way: microseconds.
    pub fn cost(&self, now: Duration, active: u32) -> u64 {
        let (known, then) = unpack(self.state.load(Ordering::Relaxed));
        // Not heard of, it is thought to be faster than it was, so that it is tried again.
        let thought = f64::from(known) * f64::from(decay(now, then));
        (thought.max(1.0) * (f64::from(active) + 1.0)) as u64
    }
}

/// What share of what was seen then still counts.
fn decay(now: Duration, then: u32) -> f32 {
    let passed = millis(now).saturating_sub(then);
    (-(passed as f32) / DECAY.as_millis() as f32).exp()
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

fn pack(micros: f32, at: u32) -> u64 {
    (u64::from(micros.to_bits()) << 32) | u64::from(at)
}

fn unpack(state: u64) -> (f32, u32) {
    (f32::from_bits((state >> 32) as u32), state as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let latency = PeakEwma::default();
        latency.observe(at(0), at(1000));
        assert_eq!(latency.cost(at(0), 0), 1_000_000);
        latency.observe(at(100), at(1));
        let soon = latency.cost(at(100), 0);
        assert!((950_000..1_000_000).contains(&soon), "{soon}");
        assert!(latency.cost(at(60_000), 0) < 10_000);
    }

    #[test]
    fn requests_under_way_multiply_the_cost() {
        let latency = PeakEwma::default();
        latency.observe(at(0), at(50));
        assert_eq!(latency.cost(at(0), 3), 4 * latency.cost(at(0), 0));
    }
}
