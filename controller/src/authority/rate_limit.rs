//! How often each source may make the controller work before it has proved who it is.

use std::{collections::HashMap, net::IpAddr};

use parking_lot::Mutex;
use tokio::time::Instant;

/// What a source may do at once: a node's proxy that starts asks for a stream and a certificate for each pod with one token,
/// which is one review.
const BURST: f64 = 10.0;

/// How fast it comes back.
const PER_SECOND: f64 = 1.0;

/// How many sources are remembered.
const SOURCES: usize = 16_384;

/// A token bucket for each source.
#[derive(Debug, Default)]
pub(super) struct RateLimit {
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn level(&self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + since * PER_SECOND).min(BURST)
    }
}

impl RateLimit {
    /// Takes one from the source's bucket. False if it is empty.
    pub(super) fn take(&self, source: IpAddr) -> bool {
        let now = Instant::now();
        let mut buckets = self.buckets.lock();
        if buckets.len() >= SOURCES && !buckets.contains_key(&source) {
            // A full bucket is as good as none.
            buckets.retain(|_, bucket| bucket.level(now) < BURST);
            if buckets.len() >= SOURCES {
                return false;
            }
        }
        let bucket = buckets.entry(source).or_insert(Bucket { left: BURST, at: now });
        let level = bucket.level(now);
        let enough = level >= 1.0;
        *bucket = Bucket {
            left: if enough { level - 1.0 } else { level },
            at: now,
        };
        enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_source_has_a_burst_and_then_its_rate_and_others_have_theirs() {
        let limit = RateLimit::default();
        let (greedy, other) = (IpAddr::from([198, 18, 0, 1]), IpAddr::from([198, 18, 0, 2]));
        let taken = (0..100).filter(|_| limit.take(greedy)).count();
        assert_eq!(taken, 10);
        assert!(limit.take(other));
        tokio::time::advance(Duration::from_secs(3)).await;
        let taken = (0..100).filter(|_| limit.take(greedy)).count();
        assert_eq!(taken, 3);
    }
}
