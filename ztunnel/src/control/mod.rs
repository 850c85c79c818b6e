//! Control: what the proxy learns from the controller, published for the event loops to read.
//!
//! ```text
//! controller ──delta xDS──> [xds] ── Store::snapshot ──> Shared.mesh ─────────┐
//!            <─CSR, chain─> [certificates] ──────────> Shared.credentials ──> event loops
//!                                  ^ pods of this node, Ask::Certificate <─────┘
//! ```
//!
//! One thread runs all of it; nothing here is on the way of a connection's bytes. While the controller is away the last
//! state stays in force, and both tasks try again with growing pauses.

mod backoff;
mod certificates;
mod channel;
mod subscriptions;
mod xds;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use culvert_identity::SpiffeId;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use crate::{
    cli::ControllerArgs,
    seam::{Ask, LoopMessage, Pod, Shared},
    wire::Secrets,
};

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
    fn set_refused(&self, identity: &SpiffeId, refused: bool) {
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

/// What control needs from outside.
pub(crate) struct Inputs {
    /// How to reach the controller.
    pub(crate) controller: ControllerArgs,
    /// This node's name.
    pub(crate) node: String,
    /// The token and roots, as the monitor sends them.
    pub(crate) secrets: watch::Receiver<Secrets>,
    /// What loops ask for.
    pub(crate) asks: mpsc::UnboundedReceiver<Ask>,
    /// The pods of this node; certificates follow them.
    pub(crate) served: Arc<Served>,
    /// Identities of pods that were just added.
    pub(crate) identities: mpsc::UnboundedReceiver<SpiffeId>,
}

/// Runs until the future is dropped.
pub(crate) async fn run(inputs: Inputs, shared: Arc<Shared>, notify: Notify) {
    let Inputs {
        controller,
        node,
        secrets,
        mut asks,
        served,
        mut identities,
    } = inputs;
    let (addresses, asked_addresses) = mpsc::unbounded_channel();
    let (wanted, wanted_identities) = mpsc::unbounded_channel();
    let endpoint = channel::Endpoint::new(controller, secrets);
    let sort = async {
        loop {
            // The receivers below live as long as this function, so sending cannot fail.
            let _ = tokio::select! {
                Some(ask) = asks.recv() => match ask {
                    Ask::Address(address) => addresses.send(xds::Question::Who(address)).is_ok(),
                    Ask::Used(used) => addresses.send(xds::Question::Used(used)).is_ok(),
                    Ask::Certificate(identity) => wanted.send(identity).is_ok(),
                },
                Some(identity) = identities.recv() => wanted.send(identity).is_ok(),
                else => return,
            };
        }
    };
    tokio::join!(
        sort,
        xds::run(
            endpoint.clone(),
            node,
            Arc::clone(&served),
            asked_addresses,
            Arc::clone(&shared),
            Arc::clone(&notify)
        ),
        certificates::run(endpoint, served, wanted_identities, shared, notify),
    );
}
