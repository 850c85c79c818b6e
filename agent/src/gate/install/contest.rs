//! Noticing that another program undoes what we write, and leaving off for a while.
//!
//! Cilium in its exclusive mode renames every configuration but its own, at once and for ever. Two programs that answer each other like
//! that would write without end, and the gate would be open half of the time without a word.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// So many of our writes undone ...
const UNDONE: usize = 5;

/// ... within this time are a contest.
const WITHIN: Duration = Duration::from_secs(10);

/// How long to leave off after the first time; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(30);

/// And how long at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// What is known of our writes of one file.
#[derive(Debug, Default)]
pub(super) struct Contest {
    /// The text that was written last, and when.
    last: Option<(String, Instant)>,
    /// When the same text had to be written again.
    undone: VecDeque<Instant>,
    pause: Option<Pause>,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Instant,
    length: Duration,
}

impl Contest {
    /// Whether this text may be written now.
    pub(super) fn may_write(&mut self, text: &str, now: Instant) -> bool {
        let is_undone = self.last.as_ref().is_some_and(|(last, _)| last == text);
        if let Some(pause) = self.pause {
            if now < pause.until {
                return false;
            }
            let is_over = |(_, at): &(String, Instant)| now.duration_since(*at) > pause.length;
            match &self.last {
                // Undone again soon after the pause: it goes on.
                Some(last) if is_undone && last.1 >= pause.until && !is_over(last) => {
                    self.pause_for(now, pause.length * 2);
                    return false;
                }
                // It has stayed for longer than the pause was: this is a new matter.
                Some(last) if last.1 >= pause.until => {
                    self.pause = None;
                    self.undone.clear();
                }
                _ => {}
            }
        }
        if is_undone {
            self.undone.push_back(now);
            while self.undone.front().is_some_and(|at| now.duration_since(*at) > WITHIN) {
                self.undone.pop_front();
            }
            if self.pause.is_none() && self.undone.len() > UNDONE {
                self.pause_for(now, FIRST_PAUSE);
                return false;
            }
        }
        self.last = Some((text.to_owned(), now));
        true
    }

    fn pause_for(&mut self, now: Instant, length: Duration) {
        let length = length.min(LONGEST_PAUSE);
        self.pause = Some(Pause {
            until: now + length,
            length,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_undone_again_and_again_leaves_off_for_longer_and_longer() {
        let mut contest = Contest::default();
        let start = Instant::now();
        let mut writes = Vec::new();
        // Somebody undoes it within 20 ms, for an hour.
        let mut at = Duration::ZERO;
        while at < Duration::from_secs(3600) {
            if contest.may_write("ours", start + at) {
                writes.push(at);
            }
            at += Duration::from_millis(20);
        }
        assert!(writes.len() < 20, "{} writes in an hour: {writes:?}", writes.len());
        assert!(
            *writes.last().unwrap() > Duration::from_secs(2400),
            "it never gives up for good: {writes:?}"
        );
    }

    #[test]
    fn what_stays_is_no_contest() {
        let mut contest = Contest::default();
        let start = Instant::now();
        for minute in 0..60 {
            assert!(contest.may_write("ours", start + Duration::from_secs(60 * minute)));
        }
        // The original changes in a hurry: each is another text.
        for change in 0..50 {
            assert!(contest.may_write(&format!("ours {change}"), start + Duration::from_secs(4000)));
        }
    }

    #[test]
    fn after_a_contest_that_has_ended_the_next_one_begins_anew() {
        let mut contest = Contest::default();
        let start = Instant::now();
        while contest.may_write("ours", start) {}
        let later = start + FIRST_PAUSE;
        assert!(contest.may_write("ours", later), "one more try after the pause");
        let much_later = later + FIRST_PAUSE * 2;
        assert!(contest.may_write("ours", much_later));
        assert!(contest.may_write("ours", much_later), "and not at once a pause");
    }
}
