//! One name of one pod.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    question::{Answer, Question},
    values::{Look, NameError, NameView, Wanted},
};

/// For how long an answer holds, whatever its TTL.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// For how long a failure holds.
const FAILED: Duration = Duration::from_secs(1);

/// For how long addresses are used beyond their time while nobody answers anew.
const STALE: Duration = Duration::from_secs(30);

/// What is known of a name.
#[derive(Debug)]
pub(super) struct Entry<W> {
    addresses: Vec<IpAddr>,
    fresh_until: Instant,
    failure: Option<(NameError, Instant)>,
    /// Where the next connection begins to look for an address.
    turn: usize,
    /// The question that is open, with its number.
    pub(super) question: Option<(u64, Question)>,
    pub(super) waiting: Vec<W>,
    pub(super) used: Instant,
}

impl<W> Entry<W> {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            addresses: Vec::new(),
            fresh_until: now,
            failure: None,
            turn: 0,
            question: None,
            waiting: Vec::new(),
            used: now,
        }
    }

    /// What can be said without asking, or while it is asked.
    pub(super) fn look(&mut self, wanted: Wanted<'_>, now: Instant) -> Option<Look> {
        if self.is_fresh(now) {
            return self.pick(wanted).map(Look::Known);
        }
        let failure = self.failure.filter(|(_, until)| now < *until).map(|(error, _)| error);
        let is_slow = self
            .question
            .as_ref()
            .is_some_and(|(_, question)| question.attempt() > 0);
        if (failure.is_some() || is_slow) && self.is_stale(now) {
            return self.pick(wanted).map(Look::Known);
        }
        failure.map(Look::Failed)
    }

    /// The next address in turn: of the family that is wanted before the other, and those that have failed last.
    fn pick(&mut self, wanted: Wanted<'_>) -> Option<IpAddr> {
        let count = self.addresses.len();
        let first = self.turn;
        self.turn = self.turn.wrapping_add(1);
        let in_turn = (0..count).map(|step| self.addresses[(first % count + step) % count]);
        in_turn.min_by_key(|address| (wanted.tried.contains(address), address.is_ipv4() != wanted.v4))
    }

    fn is_fresh(&self, now: Instant) -> bool {
        !self.addresses.is_empty() && now < self.fresh_until
    }

    /// Whether addresses are there whose time is over, and which may still be used for want of others.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        !self.addresses.is_empty() && self.fresh_until <= now && now < self.fresh_until + STALE
    }

    /// Whether there is an address that has not been tried, or may be one.
    pub(super) fn has_untried(&self, tried: &[IpAddr], now: Instant) -> bool {
        let failed = self.failure.is_some_and(|(_, until)| now < until);
        if self.is_fresh(now) || self.is_stale(now) && failed {
            return self.addresses.iter().any(|address| !tried.contains(address));
        }
        !failed
    }

    /// An answer has come.
    pub(super) fn learn(&mut self, answer: Answer, now: Instant) {
        self.fresh_until = now + Duration::from_secs(answer.ttl.into()).clamp(SHORTEST, LONGEST);
        self.addresses = answer.addresses;
        self.failure = None;
    }

    /// There is no answer, or none with an address: that there is nothing any more is an answer, too.
    pub(super) fn fail(&mut self, error: NameError, now: Instant) {
        if error == NameError::NoAddress {
            self.addresses.clear();
        }
        self.failure = Some((error, now + FAILED));
    }

    /// Whether nothing of it is of use any more.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let failed = self.failure.is_some_and(|(_, until)| now < until);
        self.question.is_none() && !failed && !self.is_fresh(now) && !self.is_stale(now)
    }

    pub(super) fn view(&self, pod: &Arc<str>, host: &Arc<str>, now: Instant) -> NameView {
        NameView {
            pod: Arc::clone(pod),
            host: Arc::clone(host),
            addresses: self.addresses.clone(),
            fresh_for: self.fresh_until.saturating_duration_since(now),
            error: self.failure.map(|(error, _)| error),
            is_asked: self.question.is_some(),
        }
    }
}
