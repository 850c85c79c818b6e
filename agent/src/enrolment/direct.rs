//! Which pods go without a proxy, and how many of their connections went direct.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;

use crate::kernel::PodUsage;

/// Pods that go without a proxy now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Direct {
    since: BTreeMap<Arc<str>, Instant>,
}

impl Direct {
    pub(super) fn new(since: BTreeMap<Arc<str>, Instant>) -> Self {
        Self { since }
    }

    /// How many there are.
    pub fn pods(&self) -> usize {
        self.since.len()
    }

    /// Since when a pod, by its uid, is known to go without a proxy.
    pub fn since(&self, uid: &str) -> Option<Instant> {
        self.since.get(uid).copied()
    }

    /// In words, when there are any.
    pub(super) fn notice(&self) -> Option<String> {
        let first = self.since.values().min()?;
        Some(format!(
            "{} pods send and take new connections directly, in plaintext and past every policy, because no proxy serves this node \
             and {} asks for it; for {} seconds now",
            self.since.len(),
            culvert_objects::FALLBACK_ANNOTATION,
            first.elapsed().as_secs(),
        ))
    }
}

/// How many connections of a pod have gone direct.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    opened: u64,
    received: u64,
}

impl Counted {
    pub(super) fn of(usage: &PodUsage) -> Self {
        Self {
            opened: usage.direct_out,
            received: usage.direct_in,
        }
    }

    /// How many more there are by now: opened and received.
    pub(super) fn until(self, usage: &PodUsage) -> (u64, u64) {
        let opened = usage.direct_out.saturating_sub(self.opened);
        (opened, usage.direct_in.saturating_sub(self.received))
    }
}
