//! Slow start: a new endpoint begins with a part of its weight, which grows until its time as a new one is over. It has no effect while all
//! are new.

use std::time::{Duration, Instant};

use culvert_envoy::pb::envoy::config::cluster::v3::cluster::SlowStartConfig as Message;

use super::turns::Turns;
use crate::error::{CompileError, take};
use crate::value::optional_duration;

/// How new endpoints begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    window: Duration,
    /// 1 grows evenly, more than that faster at first.
    aggression: f64,
    /// The share to begin with, of 1.
    least: f64,
}

impl SlowStart {
    /// Reads a cluster's settings; none where they are off.
    ///
    /// # Errors
    /// Where a number is out of its range.
    pub fn compile(message: &Message) -> Result<Option<Self>, CompileError> {
        take!(message => Message { slow_start_window, aggression, min_weight_percent } unserved {});
        let window = optional_duration("slow_start_window", slow_start_window)?.unwrap_or_default();
        let aggression = aggression.as_ref().map_or(1.0, |aggression| aggression.default_value);
        if !(aggression > 0.0 && aggression.is_finite()) {
            return Err(CompileError::invalid(
                "aggression",
                format_args!("{aggression} is not above 0"),
            ));
        }
        let least = min_weight_percent.as_ref().map_or(10.0, |percent| percent.value);
        if !(0.0..=100.0).contains(&least) {
            return Err(CompileError::invalid(
                "min_weight_percent",
                format_args!("{least} is no percentage"),
            ));
        }
        Ok((!window.is_zero()).then_some(Self {
            window,
            aggression,
            least: least / 100.0,
        }))
    }

    /// The share of its weight that an endpoint of this age has: above 0, at most 1.
    fn share(&self, age: Duration) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        // The first millisecond counts as one, so that there is a share at all.
        let passed = age.as_secs_f64().max(0.001) / self.window.as_secs_f64();
        passed.powf(1.0 / self.aggression).max(self.least).min(1.0)
    }
}

/// Turns while some members are new.
#[derive(Debug)]
pub(super) struct Warming {
    slow_start: SlowStart,
    since: Vec<Instant>,
    turns: Turns,
    until: Instant,
}

impl Warming {
    /// None where nobody is new.
    pub(super) fn new(slow_start: SlowStart, weights: &[u64], since: Vec<Instant>, now: Instant) -> Option<Self> {
        let until = since.iter().max()?.checked_add(slow_start.window)?;
        (until > now).then(|| Self {
            slow_start,
            since,
            turns: Turns::weighted(weights),
            until,
        })
    }

    /// When nobody is new any more.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Whose turn it is.
    pub(super) fn next(&self, now: Instant, random: u64, factor: impl Fn(usize) -> f64) -> usize {
        let share = |member: usize| self.slow_start.share(now.saturating_duration_since(self.since[member]));
        self.turns.next(random, |member| share(member) * factor(member))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_begins_at_the_least_and_grows_to_the_whole() {
        let slow_start = |aggression| SlowStart {
            window: Duration::from_secs(10),
            aggression,
            least: 0.1,
        };
        let at = |aggression, seconds: u64| slow_start(aggression).share(Duration::from_secs(seconds));
        assert!(
            [(0, 0.1), (5, 0.5), (9, 0.9), (10, 1.0), (60, 1.0)]
                .iter()
                .all(|(age, share)| at(1.0, *age) == *share)
        );
        // Envoy takes the root: more aggression is more weight early.
        assert!(at(2.0, 5) > at(1.0, 5));
    }
}
