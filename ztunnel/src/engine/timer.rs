//! Deadlines of the loop.
//!
//! Nearly every deadline is a connection's connect timeout, set for all of them and reached by hardly any. They have
//! the same duration, so they fall due in the order in which they were set: a queue serves, and entries of connections
//! that are long established are dropped from its front without waiting for their time. The few with other durations
//! (retries, pauses) sit in a heap.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

/// What falls due. `F` names a flow, `T` a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due<F, T> {
    /// A flow's connect timeout.
    Deadline(F),
    /// A flow wants to be resolved again.
    Retry(F),
    /// This attempt of a flow, by number, has had its time, if there is another endpoint.
    Attempt(F, u32),
    /// A flow has waited long enough for somebody to appear at an address.
    Unknown(F),
    /// Questions that pods asked too quickly may be asked.
    Asks,
    /// Open connections have waited long enough for a policy that is named and has not arrived.
    Policies,
    /// A tunnel is still connecting, shaking hands or closing.
    Tunnel(T),
    /// A tunnel that waited for its only application to read goes on.
    Resume(T),
    /// A tunnel that was asked for a sign of life together with a connection should have answered.
    Doubt(T),
    /// Listeners that ran into a lack of descriptors try again.
    Accept,
    /// DNS queries have waited long enough for what the controller says of their names.
    Held,
    /// Forwarded DNS queries have waited long enough.
    Queries,
    /// Resolvers that were asked for names of endpoints have had their time.
    Names,
    /// The regular look at everything: idle tunnels, pings, statistics.
    Sweep,
}

/// The loop's timers.
#[derive(Debug)]
pub(super) struct Timers<F, T> {
    connects: VecDeque<(Instant, F)>,
    others: BinaryHeap<Reverse<Entry<F, T>>>,
    sequence: u64,
}

#[derive(Debug)]
struct Entry<F, T> {
    at: Instant,
    /// Keeps the order of entries with the same time, and spares `F` and `T` from being ordered.
    sequence: u64,
    due: Due<F, T>,
}

impl<F: Copy, T: Copy> Timers<F, T> {
    pub(super) const fn new() -> Self {
        Self {
            connects: VecDeque::new(),
            others: BinaryHeap::new(),
            sequence: 0,
        }
    }

    /// Sets a connect timeout. `at` must not be before the last one that was set.
    pub(super) fn set_deadline(&mut self, at: Instant, flow: F) {
        self.connects.push_back((at, flow));
    }

    pub(super) fn set(&mut self, at: Instant, due: Due<F, T>) {
        self.sequence += 1;
        self.others.push(Reverse(Entry {
            at,
            sequence: self.sequence,
            due,
        }));
    }

    /// How long the loop may sleep. Drops connect timeouts that nobody waits for, according to `waits`.
    pub(super) fn timeout(&mut self, now: Instant, waits: impl Fn(F) -> bool) -> Option<Duration> {
        while self.connects.front().is_some_and(|(_, flow)| !waits(*flow)) {
            self.connects.pop_front();
        }
        let first = self.connects.front().map(|(at, _)| *at);
        let other = self.others.peek().map(|Reverse(entry)| entry.at);
        let at = match (first, other) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b)?,
        };
        Some(at.saturating_duration_since(now))
    }

    /// The next thing that is due, if any.
    pub(super) fn next(&mut self, now: Instant) -> Option<Due<F, T>> {
        if self.connects.front().is_some_and(|(at, _)| *at <= now) {
            return self.connects.pop_front().map(|(_, flow)| Due::Deadline(flow));
        }
        if self.others.peek().is_some_and(|Reverse(entry)| entry.at <= now) {
            return self.others.pop().map(|Reverse(entry)| entry.due);
        }
        None
    }
}

impl<F, T> PartialEq for Entry<F, T> {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl<F, T> Eq for Entry<F, T> {}

impl<F, T> PartialOrd for Entry<F, T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<F, T> Ord for Entry<F, T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_that_nobody_waits_for_do_not_wake_the_loop() {
        let mut timers: Timers<u32, u32> = Timers::new();
        let now = Instant::now();
        let second = Duration::from_secs(1);
        timers.set_deadline(now + second, 1);
        timers.set_deadline(now + 2 * second, 2);
        timers.set(now + 3 * second, Due::Sweep);
        assert_eq!(timers.timeout(now, |flow| flow == 2), Some(2 * second));
        assert_eq!(timers.timeout(now, |_| false), Some(3 * second));
    }

    #[test]
    fn what_is_due_comes_in_order() {
        let mut timers: Timers<u32, u32> = Timers::new();
        let now = Instant::now();
        let tick = Duration::from_millis(1);
        timers.set(now + 2 * tick, Due::Retry(7));
        timers.set(now + tick, Due::Tunnel(8));
        timers.set_deadline(now + 3 * tick, 9);
        assert_eq!(timers.next(now), None);
        let late = now + 3 * tick;
        assert_eq!(timers.next(late), Some(Due::Deadline(9)));
        assert_eq!(timers.next(late), Some(Due::Tunnel(8)));
        assert_eq!(timers.next(late), Some(Due::Retry(7)));
        assert_eq!(timers.next(late), None);
        assert_eq!(timers.timeout(late, |_| true), None);
    }
}
