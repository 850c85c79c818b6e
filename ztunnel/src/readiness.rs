//! Whether the proxy can take its node over.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use culvert_control::{Published, Served};

/// What readiness depends on.
#[derive(Debug)]
pub(crate) struct Readiness {
    served: Arc<Served>,
    published: Published,
    /// The pods that the agent had at first, once all of them are here.
    first: OnceLock<BTreeSet<Arc<str>>>,
    draining: AtomicBool,
}

impl Readiness {
    /// Nothing is there yet.
    pub(crate) fn new(served: Arc<Served>, published: Published) -> Self {
        Self {
            served,
            published,
            first: OnceLock::new(),
            draining: AtomicBool::new(false),
        }
    }

    /// Every pod that the agent had at first is here.
    pub(crate) fn set_complete(&self) {
        // A second snapshot, of a restarted agent, tells nothing about readiness.
        let _ = self
            .first
            .set(self.served.all().iter().map(|pod| Arc::clone(&pod.uid)).collect());
    }

    /// Nothing new is accepted any more.
    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// What keeps the proxy from taking its node over; empty when it is ready. Pods that came later do not count: each of
    /// them waits for its own certificate, and a node where pods come and go should not flicker.
    pub(crate) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if self.draining.load(Ordering::Relaxed) {
            missing.push("draining".into());
        }
        let first = self.first.get();
        if first.is_none() {
            missing.push("pods from the agent".into());
        }
        if !self.published.mesh.load().synced() {
            missing.push("configuration from the controller".into());
        }
        let credentials = self.published.credentials.load();
        let without = self
            .served
            .all()
            .into_iter()
            .filter(|pod| first.is_none_or(|first| first.contains(&pod.uid)))
            .filter(|pod| !credentials.contains_key(&pod.identity) && !self.served.is_refused(&pod.identity));
        missing
            .extend(without.map(|pod| format!("a certificate for {} ({}/{})", pod.identity, pod.namespace, pod.name)));
        missing
    }
}
