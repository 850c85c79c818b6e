//! Growing pauses between attempts.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

/// Doubles from `first` to `last`. Each pause is cut by up to a half at random, so that the nodes of a cluster do not all
/// come back to a restarted controller in the same moment.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    last: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration, last: Duration) -> Self {
        Self {
            first,
            last,
            next: first,
        }
    }

    /// The next pause.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.last);
        jitter(pause)
    }

    /// An attempt succeeded.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Between half of `duration` and all of it.
pub(super) fn jitter(duration: Duration) -> Duration {
    // A fresh hasher's keys are random, which is randomness enough to spread a cluster's nodes.
    let random = RandomState::new().hash_one(0u8) % 1024;
    duration / 2 + duration / 2 * random as u32 / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_last_and_start_over_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for upper in [100, 200, 400, 800, 1000, 1000] {
            let (pause, upper) = (backoff.pause(), Duration::from_millis(upper));
            assert!(
                upper / 2 <= pause && pause <= upper,
                "{pause:?} is not within half of {upper:?}"
            );
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(100));
    }
}
