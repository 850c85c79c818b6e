//! Which identities run on which node, by the objects of the moment.

use culvert_identity::SpiffeId;
use culvert_objects::{ObjectName, Objects, is_host_network, service_account};
use tokio::sync::watch;

use std::sync::Arc;

use crate::authority::{Placement, Refusal};
use crate::model::{in_namespace, pod};
use crate::run::State;

/// Answers from the newest state.
pub(crate) struct Placed {
    state: watch::Receiver<Arc<State>>,
    trust_domain: String,
}

impl Placed {
    /// Identities of `trust_domain`, of the pods in `state`.
    pub(crate) fn new(state: watch::Receiver<Arc<State>>, trust_domain: &str) -> Self {
        Self {
            state,
            trust_domain: trust_domain.to_owned(),
        }
    }
}

impl Placement for Placed {
    fn check(&self, node: &str, identity: &SpiffeId) -> Result<(), Refusal> {
        if identity.trust_domain() != self.trust_domain {
            return Err(Refusal::TrustDomain(identity.clone()));
        }
        let state = Arc::clone(&self.state.borrow());
        check(&state.loaded.objects, node, identity)
    }
}

/// A node may have the identities of pods that are bound to it and not over. Whether they are enrolled does not matter:
/// the node's agent may know of a label before the controller does, and connections that are in the tunnel when a pod
/// leaves the mesh still end there. Whether the account exists is said only to a node that has such a pod: others learn
/// nothing about what exists elsewhere.
fn check(objects: &Objects, node: &str, identity: &SpiffeId) -> Result<(), Refusal> {
    let (namespace, account) = (identity.namespace(), identity.service_account());
    let runs = in_namespace(&objects.pods, namespace).any(|(_, p)| {
        service_account(p) == account && pod::node_name(p) == Some(node) && !pod::has_ended(p) && !is_host_network(p)
    });
    if !runs {
        return Err(Refusal::NotOnNode {
            node: node.to_owned(),
            identity: identity.clone(),
        });
    }
    if !objects
        .service_accounts
        .contains_key(&ObjectName::new(namespace, account))
    {
        return Err(Refusal::NoServiceAccount(identity.clone()));
    }
    Ok(())
}
