//! What control shares with the monitor's side and the loops: the pods that this proxy serves, and how loops are told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use culvert_identity::SpiffeId;
use parking_lot::Mutex;

use crate::seam::{LoopMessage, Shared};
use culvert_state::Pod;

/// Tells all loops that a snapshot has changed, and which: [`LoopMessage::MeshChanged`] or
/// [`LoopMessage::CertificatesChanged`].
pub(crate) type Notify = Arc<dyn Fn(LoopMessage) + Send + Sync>;

/// The pods that this proxy serves, as control sees them.
#[derive(Debug, Default)]
pub(crate) struct Served {
    pods: Mutex<BTreeMap<Arc<str>, Arc<Pod>>>,
    /// The pods that the agent had at first, once all of them are here.
    first: OnceLock<BTreeSet<Arc<str>>>,
    /// Identities for which the authority refuses to sign.
    refused: Mutex<BTreeSet<SpiffeId>>,
    draining: AtomicBool,
}

impl Served {
    /// Adds a pod, or replaces the one with its uid.
    pub(crate) fn insert(&self, pod: Arc<Pod>) {
        self.pods.lock().insert(Arc::clone(&pod.uid), pod);
    }

    /// Removes a pod.
    pub(crate) fn remove(&self, uid: &str) -> Option<Arc<Pod>> {
        self.pods.lock().remove(uid)
    }

    /// All pods, by uid.
    pub(crate) fn all(&self) -> Vec<Arc<Pod>> {
        self.pods.lock().values().cloned().collect()
    }

    /// Every pod that the agent had at first is here.
    pub(crate) fn set_complete(&self) {
        // A second snapshot, of a restarted agent, tells nothing about readiness.
        let _ = self.first.set(self.pods.lock().keys().cloned().collect());
    }

    /// Whether the authority refuses to sign for this identity. Its pods' tunnels fail, and nobody waits for them.
    pub(super) fn set_refused(&self, identity: &SpiffeId, refused: bool) {
        let mut all = self.refused.lock();
        if refused {
            all.insert(identity.clone());
        } else {
            all.remove(identity);
        }
    }

    /// Nothing new is accepted any more.
    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// What keeps the proxy from taking its node over; empty when it is ready. Pods that came later do not count: each of
    /// them waits for its own certificate, and a node where pods come and go should not flicker.
    pub(crate) fn missing(&self, shared: &Shared) -> Vec<String> {
        let mut missing = Vec::new();
        if self.draining.load(Ordering::Relaxed) {
            missing.push("draining".into());
        }
        let first = self.first.get();
        if first.is_none() {
            missing.push("pods from the agent".into());
        }
        if !shared.mesh.load().synced() {
            missing.push("configuration from the controller".into());
        }
        let credentials = shared.credentials.load();
        let refused = self.refused.lock();
        let without = self
            .all()
            .into_iter()
            .filter(|pod| first.is_none_or(|first| first.contains(&pod.uid)))
            .filter(|pod| !credentials.contains_key(&pod.identity) && !refused.contains(&pod.identity));
        missing
            .extend(without.map(|pod| format!("a certificate for {} ({}/{})", pod.identity, pod.namespace, pod.name)));
        missing
    }

    /// Whether some pod has this identity.
    pub(crate) fn has_identity(&self, identity: &SpiffeId) -> bool {
        self.pods.lock().values().any(|pod| pod.identity == *identity)
    }
}
