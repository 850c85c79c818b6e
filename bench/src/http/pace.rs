//! When requests are due that are sent at a rate, whether or not those before are answered: what a proxy holds up counts as its delay,
//! and is not left out because nobody asked meanwhile.

use std::time::{Duration, Instant};

/// Requests at a rate.
pub(super) struct Pace {
    begins: Instant,
    between: Duration,
    sent: u32,
}

impl Pace {
    /// So many a second, the first one now.
    pub(super) fn new(rate: f64) -> Self {
        Self {
            begins: Instant::now(),
            between: Duration::from_secs_f64(1.0 / rate.max(1e-3)),
            sent: 0,
        }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Instant {
        self.begins + self.between * self.sent
    }

    /// The time at which the next one was due, if that is past; the one after it is next then.
    pub(super) fn take(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next();
        (due <= now).then(|| {
            self.sent += 1;
            due
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_up_is_still_due_at_its_time() {
        let mut pace = Pace::new(1000.0);
        let begins = pace.next();
        let late = begins + Duration::from_millis(2);
        let due: Vec<_> = std::iter::from_fn(|| pace.take(late)).collect();
        let expected = [0, 1, 2].map(|millis| begins + Duration::from_millis(millis));
        assert_eq!(due, expected);
        assert_eq!(pace.next(), begins + Duration::from_millis(3));
    }
}
