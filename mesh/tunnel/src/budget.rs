//! The bytes that connections make a proxy hold, and what may be held. No I/O: the caller counts, asks, and acts.
//!
//! An application that does not read makes its node's proxy keep what was sent: a stream's window at most for each
//! connection, but of any number of connections. So what is held is counted, for all loops of the worker together and for
//! each pod, which may cause at most [`POD_SHARE`] of the whole. As the room gets smaller,
//! 1. a tunnel that holds more than [`TUNNEL_SHARE`] of what is left gets no more credit for its connection: those that
//!    hold most are the first, and one whose applications read never is ("dynamic thresholds", Choudhury and Hahne);
//! 2. from [`REFUSE`] on, new streams to the pod are refused (`REFUSED_STREAM`: the peer may try again);
//! 3. beyond the limit, the connection that holds most is reset.

use std::{
    collections::hash_map::Entry,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustc_hash::FxHashMap;

/// What one pod may cause of the whole, in sixteenths.
const POD_SHARE: u64 = 5;

/// What one tunnel may hold of the room that is left, before its peer gets no more credit: one part in so many.
const TUNNEL_SHARE: u64 = 8;

/// From when on new streams are refused, in eighths of a limit.
const REFUSE: u64 = 6;

/// A pod that holds no more than this is not what fills the proxy.
const INNOCENT: u64 = 1 << 20;

/// What all threads of a proxy hold together, and may hold.
#[derive(Debug)]
pub struct HeldBytes {
    limit: u64,
    held: AtomicU64,
}

impl HeldBytes {
    /// Nothing held yet.
    pub const fn new(limit: u64) -> Self {
        Self {
            limit,
            held: AtomicU64::new(0),
        }
    }

    /// Bytes that may be held.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes that are held.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}

/// The same as one thread sees it, with each pod's part.
#[derive(Debug)]
pub struct Budget {
    all: Arc<HeldBytes>,
    /// Only of pods that cause any.
    pods: FxHashMap<Arc<str>, u64>,
}

/// Whose limit is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// The pod's.
    Pod,
    /// That of all pods together.
    Proxy,
}

impl Budget {
    /// Nothing held by this thread yet.
    pub fn new(all: Arc<HeldBytes>) -> Self {
        Self {
            all,
            pods: FxHashMap::default(),
        }
    }

    /// What all threads hold.
    pub fn all(&self) -> &HeldBytes {
        &self.all
    }

    /// Bytes that one pod may cause.
    pub fn pod_limit(&self) -> u64 {
        self.all.limit / 16 * POD_SHARE
    }

    /// The limit that is exceeded, in bytes.
    pub fn limit(&self, excess: Excess) -> u64 {
        match excess {
            Excess::Pod => self.pod_limit(),
            Excess::Proxy => self.all.limit,
        }
    }

    fn of(&self, pod: &str) -> u64 {
        self.pods.get(pod).copied().unwrap_or(0)
    }

    /// Something of a pod (by uid) held `before` bytes and holds `after` now.
    pub fn change(&mut self, pod: &Arc<str>, before: usize, after: usize) {
        let (before, after) = (before as u64, after as u64);
        let (grown, shrunk) = (after.saturating_sub(before), before.saturating_sub(after));
        self.all.held.fetch_add(grown, Ordering::Relaxed);
        self.all.held.fetch_sub(shrunk, Ordering::Relaxed);
        match self.pods.entry(Arc::clone(pod)) {
            Entry::Occupied(mut entry) => {
                *entry.get_mut() = (*entry.get() + grown).saturating_sub(shrunk);
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
            Entry::Vacant(entry) => {
                if grown > 0 {
                    entry.insert(grown);
                }
            }
        }
    }

    /// Bytes that one of the pod's tunnels may hold and still get credit.
    pub fn tunnel_limit(&self, pod: &str) -> u64 {
        let of_pod = self.pod_limit().saturating_sub(self.of(pod));
        let of_all = self.all.limit.saturating_sub(self.all.held());
        of_pod.min(of_all) / TUNNEL_SHARE
    }

    /// Whether no new stream to the pod is taken.
    pub fn refuses(&self, pod: &str) -> bool {
        let held = self.of(pod);
        held >= self.pod_limit() / 8 * REFUSE || held > INNOCENT && self.all.held() >= self.all.limit / 8 * REFUSE
    }

    /// Whose limit is exceeded, as far as this pod is concerned.
    pub fn excess(&self, pod: &str) -> Option<Excess> {
        if self.of(pod) > self.pod_limit() {
            Some(Excess::Pod)
        } else if self.all.held() > self.all.limit {
            Some(Excess::Proxy)
        } else {
            None
        }
    }

    /// Whether there is room enough for everybody, so that the next excess is news.
    pub fn is_calm(&self) -> bool {
        let worst = self.pods.values().copied().max().unwrap_or(0);
        self.all.held() < self.all.limit / 8 * REFUSE && worst < self.pod_limit() / 8 * REFUSE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn one_pod_cannot_use_up_what_others_need() {
        let mut budget = Budget::new(Arc::new(HeldBytes::new(80 << 20)));
        let (greedy, other): (Arc<str>, Arc<str>) = ("greedy".into(), "other".into());
        assert!(budget.tunnel_limit(&greedy) >= 3 << 20);
        budget.change(&greedy, 0, 24 * MIB);
        // It gets next to no credit and no stream, and the other as much of both as before.
        assert!(budget.tunnel_limit(&greedy) < MIB as u64);
        assert!(budget.refuses(&greedy) && !budget.refuses(&other));
        assert!(!budget.is_calm());
        assert!(budget.tunnel_limit(&other) >= 3 << 20);
        assert_eq!(budget.excess(&greedy), None);
        budget.change(&greedy, 24 * MIB, 26 * MIB);
        assert_eq!(
            (budget.excess(&greedy), budget.excess(&other)),
            (Some(Excess::Pod), None)
        );
        budget.change(&greedy, 26 * MIB, 0);
        assert_eq!((budget.all.held(), budget.pods.len()), (0, 0));
        assert!(budget.is_calm());
    }

    #[test]
    fn many_pods_together_are_bounded_and_those_that_hold_nothing_are_served() {
        let mut budget = Budget::new(Arc::new(HeldBytes::new(80 << 20)));
        let pods: Vec<Arc<str>> = (0..5).map(|number| format!("pod-{number}").into()).collect();
        for pod in &pods {
            budget.change(pod, 0, 15 * MIB);
        }
        assert!(budget.refuses(&pods[0]));
        assert!(!budget.refuses("idle"));
        budget.change(&pods[0], 15 * MIB, 22 * MIB);
        assert_eq!(budget.excess(&pods[0]), Some(Excess::Proxy));
    }
}
