//! When a name is due.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

/// For how long an answer holds, at least and at most.
const HOLDS: (u32, u32) = (1, 300);

/// How soon a resolver that failed is asked again, at first and at last.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// So many names at most: of more, those that come last in their order are not resolved.
const MOST: usize = 4096;

/// So many are asked for at once.
const AT_ONCE: usize = 32;

/// The names that are wanted, and when each is due.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    names: BTreeMap<Arc<str>, Turn>,
    /// How many are asked for at this moment.
    asked: usize,
}

#[derive(Debug)]
struct Turn {
    /// None while it is asked for.
    due: Option<Instant>,
    /// In a row.
    failures: u32,
}

impl Schedule {
    /// These are wanted from now on. Says which are no longer, and how many are too many.
    pub(super) fn want(&mut self, wanted: &BTreeSet<Arc<str>>, now: Instant) -> (Vec<Arc<str>>, usize) {
        let wanted: BTreeSet<&Arc<str>> = wanted.iter().take(MOST).collect();
        let gone: Vec<Arc<str>> = self
            .names
            .keys()
            .filter(|name| !wanted.contains(name))
            .cloned()
            .collect();
        self.names.retain(|name, _| wanted.contains(name));
        for name in &wanted {
            self.names.entry(Arc::clone(name)).or_insert(Turn {
                due: Some(now),
                failures: 0,
            });
        }
        (gone, wanted.len())
    }

    /// Those to ask for now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Arc<str>> {
        let mut found = Vec::new();
        for (name, turn) in &mut self.names {
            if self.asked == AT_ONCE {
                break;
            }
            if turn.due.is_some_and(|due| due <= now) {
                turn.due = None;
                self.asked += 1;
                found.push(Arc::clone(name));
            }
        }
        found
    }

    /// When the next one is due; none while as many are asked for as may be.
    pub(super) fn next(&self) -> Option<Instant> {
        let dues = self.names.values().filter_map(|turn| turn.due);
        dues.min().filter(|_| self.asked < AT_ONCE)
    }

    /// A name was answered, for so many seconds. Says whether it is wanted still, and whether it had failed before.
    pub(super) fn answered(&mut self, name: &str, ttl: u32, now: Instant) -> (bool, bool) {
        self.asked = self.asked.saturating_sub(1);
        let Some(turn) = self.names.get_mut(name) else {
            return (false, false);
        };
        let had_failed = std::mem::take(&mut turn.failures) > 0;
        turn.due = Some(now + Duration::from_secs(ttl.clamp(HOLDS.0, HOLDS.1).into()));
        (true, had_failed)
    }

    /// A name was not answered. Says whether it is the first time in a row.
    pub(super) fn failed(&mut self, name: &str, now: Instant) -> bool {
        self.asked = self.asked.saturating_sub(1);
        let Some(turn) = self.names.get_mut(name) else {
            return false;
        };
        let wait = AGAIN.0.saturating_mul(1 << turn.failures.min(5)).min(AGAIN.1);
        turn.failures = turn.failures.saturating_add(1);
        turn.due = Some(now + wait);
        turn.failures == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> BTreeSet<Arc<str>> {
        list.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn a_name_is_due_when_its_answer_ends_and_a_failure_is_asked_about_again_ever_later() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let mut schedule = Schedule::default();
        schedule.want(&names(&["a"]), begin);
        assert_eq!(schedule.due(begin).len(), 1);
        assert!(schedule.due(begin).is_empty() && schedule.next().is_none());
        assert_eq!(schedule.answered("a", 0, begin), (true, false));
        assert_eq!(schedule.next(), Some(after(1)));
        for (at, wait, is_first) in [
            (1, 1, true),
            (2, 2, false),
            (4, 4, false),
            (8, 8, false),
            (16, 16, false),
            (32, 30, false),
            (62, 30, false),
        ] {
            assert_eq!(schedule.due(after(at)).len(), 1, "{at}");
            assert_eq!(schedule.failed("a", after(at)), is_first);
            assert_eq!(schedule.next(), Some(after(at + wait)));
        }
        assert_eq!(schedule.due(after(92)).len(), 1);
        assert_eq!(schedule.answered("a", 100_000, after(92)), (true, true));
        assert_eq!(schedule.next(), Some(after(392)));
    }

    #[test]
    fn what_is_no_longer_wanted_is_forgotten_and_few_are_asked_for_at_once() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        let many: BTreeSet<Arc<str>> = (0..100).map(|number| Arc::from(format!("n{number}"))).collect();
        schedule.want(&many, now);
        assert_eq!(schedule.due(now).len(), AT_ONCE);
        assert!(schedule.due(now).is_empty() && schedule.next().is_none());
        assert_eq!(schedule.want(&names(&["n1"]), now).0.len(), 99);
        assert_eq!(schedule.answered("n0", 5, now), (false, false));
    }
}
