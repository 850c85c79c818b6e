//! When an identity's certificate is asked for. Takes times and gives times; the requests themselves are `certificates`' business.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::{Backoff, jitter};

/// Pauses before the authority is asked again.
const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// A refusal that lasts so long is the authority's last word, for the time being.
const REFUSAL_SETTLED: Duration = Duration::from_secs(1);

/// The schedule of one identity.
pub(super) struct Renewal {
    /// When to ask next; none while a request is under way.
    ask_at: Option<Instant>,
    /// When the failures began that have followed one another since; none after a success.
    failing_since: Option<Instant>,
    backoff: Backoff,
}

/// What a failed request means.
pub(super) struct Failed {
    /// How long until the next one.
    pub(super) retry_in: Duration,
    /// It has failed for so long that the authority's answer will not change soon.
    pub(super) settled: bool,
}

impl Renewal {
    /// To be asked for now, for the first time.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            ask_at: Some(now),
            failing_since: None,
            backoff: Backoff::new(FIRST_RETRY, LAST_RETRY),
        }
    }

    /// When to ask next, if no request is under way.
    pub(super) fn ask_at(&self) -> Option<Instant> {
        self.ask_at
    }

    /// A request is under way.
    pub(super) fn asked(&mut self) {
        self.ask_at = None;
    }

    /// Ends the pause: the controller is there again.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.ask_at = self.ask_at.map(|at| at.min(now));
        self.backoff.reset();
    }

    /// A request has brought a certificate that is to be renewed after `until_renewal`.
    pub(super) fn succeeded(&mut self, now: Instant, until_renewal: Duration) {
        self.ask_at = Some(now + jitter(until_renewal.max(Duration::from_secs(1))));
        self.failing_since = None;
        self.backoff.reset();
    }

    /// A request has brought nothing.
    pub(super) fn failed(&mut self, now: Instant) -> Failed {
        let since = *self.failing_since.get_or_insert(now);
        let retry_in = self.backoff.pause();
        self.ask_at = Some(now + retry_in);
        Failed {
            retry_in,
            settled: now.duration_since(since) > REFUSAL_SETTLED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn nobody_can_sign_for_an_hour_and_the_authority_is_not_flooded() {
        let begin = Instant::now();
        let mut renewal = Renewal::new(begin);
        renewal.asked();
        renewal.succeeded(begin, 12 * HOUR);
        let due = renewal.ask_at().unwrap();
        assert!(due >= begin + 6 * HOUR && due <= begin + 12 * HOUR);
        let (mut now, mut asked) = (due, 0);
        while now < due + HOUR {
            renewal.asked();
            asked += 1;
            renewal.failed(now);
            let next = renewal.ask_at().unwrap();
            assert!(next - now <= LAST_RETRY);
            now = next;
        }
        // Every 15 to 30 seconds, in the end.
        assert!((100..300).contains(&asked), "asked {asked} times in an hour");
        renewal.succeeded(now, HOUR);
        assert!(renewal.ask_at().unwrap() >= now + HOUR / 2);
    }

    #[test]
    fn a_refusal_is_the_last_word_only_when_it_has_lasted() {
        let begin = Instant::now();
        let mut renewal = Renewal::new(begin);
        assert!(!renewal.failed(begin).settled);
        assert!(!renewal.failed(begin + REFUSAL_SETTLED).settled);
        assert!(renewal.failed(begin + 2 * REFUSAL_SETTLED).settled);
        // After a success it begins anew, and who comes back is asked at once.
        renewal.succeeded(begin, HOUR);
        assert!(!renewal.failed(begin + 3 * HOUR).settled);
        renewal.hurry(begin + 3 * HOUR);
        assert_eq!(renewal.ask_at(), Some(begin + 3 * HOUR));
    }
}
