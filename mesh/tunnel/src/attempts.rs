//! The attempts of one connection to get connected: which targets were tried, and when to try again.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::failure::Failure;

/// The first retry comes soon: most failures are a peer that is changing over.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LAST_DELAY: Duration = Duration::from_secs(1);

/// The attempts of one connection. No byte of the application leaves before one succeeds, so another is always safe.
#[derive(Debug)]
pub struct Attempts {
    /// When all attempts are over: the connect timeout.
    pub deadline: Instant,
    /// Targets at which one failed, since there was one left that had not been tried.
    pub tried: Vec<SocketAddr>,
    /// Names of endpoints that have no address left at which it did not fail.
    pub names: Vec<Arc<str>>,
    /// Counts the attempts.
    pub number: u32,
    failed: u32,
    last: Option<Failure>,
}

impl Attempts {
    /// None made yet.
    pub const fn until(deadline: Instant) -> Self {
        Self {
            deadline,
            tried: Vec::new(),
            names: Vec::new(),
            number: 0,
            failed: 0,
            last: None,
        }
    }

    /// How long to wait before the next attempt, `None` if there is to be none. `elsewhere` if it will be at a target that
    /// has not been tried: that is not waited for. Where all have been tried, what they said is passed on, unless it may
    /// pass by itself.
    pub fn failed(&mut self, failure: &Failure, elsewhere: bool) -> Option<Duration> {
        self.last = Some(failure.clone());
        if elsewhere {
            return Some(Duration::ZERO);
        }
        if !failure.may_pass() {
            return None;
        }
        self.tried.clear();
        self.names.clear();
        let delay = (FIRST_DELAY * (1 << self.failed.min(8))).min(LAST_DELAY);
        self.failed += 1;
        Some(delay)
    }

    /// What the last attempt failed of.
    pub fn last(&self) -> Option<&Failure> {
        self.last.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_passed_on_once_there_is_nobody_else_and_what_may_pass_is_waited_for() {
        let mut attempts = Attempts::until(Instant::now());
        let lost = Failure::TunnelLost("gone".into());
        assert_eq!(attempts.failed(&lost, false), Some(Duration::from_millis(50)));
        assert_eq!(attempts.failed(&lost, false), Some(Duration::from_millis(100)));
        let refused = Failure::Refused {
            status: 503,
            reason: "".into(),
        };
        assert_eq!(attempts.failed(&refused, true), Some(Duration::ZERO));
        assert_eq!(attempts.failed(&refused, false), None);
        for _ in 0..20 {
            assert!(
                attempts
                    .failed(&lost, false)
                    .is_some_and(|delay| delay <= Duration::from_secs(1))
            );
        }
    }
}
