//! The pods that a proxy serves: whose certificates are kept, and whose addresses stay subscribed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use culvert_identity::SpiffeId;
use culvert_state::Pod;
use parking_lot::Mutex;

/// The pods that this proxy serves: those of a node, or the workload itself. Shared by control and whoever adds them; no
/// connection waits for its locks.
#[derive(Debug, Default)]
pub struct Served {
    pods: Mutex<BTreeMap<Arc<str>, Arc<Pod>>>,
    /// Identities for which the authority refuses to sign.
    refused: Mutex<BTreeSet<SpiffeId>>,
}

impl Served {
    /// Adds a pod, or replaces the one with its uid. Its certificate has to be asked for ([`Ask`](crate::Ask)).
    pub fn insert(&self, pod: Arc<Pod>) {
        self.pods.lock().insert(Arc::clone(&pod.uid), pod);
    }

    /// Removes a pod. Its certificate is no longer renewed unless another has the same identity.
    pub fn remove(&self, uid: &str) -> Option<Arc<Pod>> {
        self.pods.lock().remove(uid)
    }

    /// All pods, by uid.
    pub fn all(&self) -> Vec<Arc<Pod>> {
        self.pods.lock().values().cloned().collect()
    }

    /// Whether the authority has refused to sign for this identity, and not just for a moment. Its pods' tunnels fail, and
    /// nobody should wait for them.
    pub fn is_refused(&self, identity: &SpiffeId) -> bool {
        self.refused.lock().contains(identity)
    }

    pub(crate) fn set_refused(&self, identity: &SpiffeId, refused: bool) {
        let mut all = self.refused.lock();
        if refused {
            all.insert(identity.clone());
        } else {
            all.remove(identity);
        }
    }

    /// Whether some pod has this identity.
    pub(crate) fn has_identity(&self, identity: &SpiffeId) -> bool {
        self.pods.lock().values().any(|pod| pod.identity == *identity)
    }
}
