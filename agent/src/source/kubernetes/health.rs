//! How well the cluster is followed, as counters.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A watch without an error for so long is taken to be connected: it tries again sooner than this.
const QUIET: Duration = Duration::from_secs(10);

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    Pods,
    Namespaces,
}

/// What one kind of watch has met.
#[derive(Debug, Default)]
struct Watch {
    heard: Option<Instant>,
    failed: Option<Instant>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Health {
    pods: Mutex<Watch>,
    namespaces: Mutex<Watch>,
    pod_failures: AtomicU64,
    namespace_failures: AtomicU64,
    by_gate: AtomicU64,
}

/// As shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WatchState {
    pub(super) is_connected: bool,
    /// Since the API server last told something.
    pub(super) age: Option<Duration>,
    pub(super) failures: u64,
}

impl Health {
    pub(super) fn heard(&self, what: Watched) {
        self.watch(what).heard = Some(Instant::now());
    }

    pub(super) fn failed(&self, what: Watched) {
        self.failures(what).fetch_add(1, Ordering::Relaxed);
        self.watch(what).failed = Some(Instant::now());
    }

    pub(super) fn found_by_gate(&self) {
        self.by_gate.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn by_gate(&self) -> u64 {
        self.by_gate.load(Ordering::Relaxed)
    }

    pub(super) fn state(&self, what: Watched) -> WatchState {
        let watch = self.watch(what);
        let has_failed = watch.failed.is_some_and(|at| at.elapsed() < QUIET);
        WatchState {
            is_connected: watch.heard.is_some() && !has_failed,
            age: watch.heard.map(|at| at.elapsed()),
            failures: self.failures(what).load(Ordering::Relaxed),
        }
    }

    fn watch(&self, what: Watched) -> MutexGuard<'_, Watch> {
        let watch = match what {
            Watched::Pods => &self.pods,
            Watched::Namespaces => &self.namespaces,
        };
        watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self, what: Watched) -> &AtomicU64 {
        match what {
            Watched::Pods => &self.pod_failures,
            Watched::Namespaces => &self.namespace_failures,
        }
    }
}
