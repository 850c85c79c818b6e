//! Who may have which identity: nodes those of their pods, workloads their own.

use culvert_identity::SpiffeId;
use culvert_objects::ObjectName;
use tokio::sync::watch;

use std::sync::Arc;
use std::time::Duration;

use crate::authority::{BoundPod, Caller, IssuancePolicy, NodeOfPod, Refusal};
use crate::model::pod;
use crate::state::State;

/// How far the controller's knowledge of pods may be behind a node's. A node asks for a pod's identity while the pod is
/// being started, which is moments after it was bound to the node.
pub(super) const BEHIND: Duration = Duration::from_millis(1500);

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

#[tonic::async_trait]
impl IssuancePolicy for Placed {
    fn own_identity(&self, caller: &Caller) -> Option<SpiffeId> {
        caller.own_identity(&self.trust_domain)
    }

    async fn check(&self, caller: &Caller, identity: &SpiffeId) -> Result<(), Refusal> {
        if identity.trust_domain() != self.trust_domain {
            return Err(Refusal::TrustDomain(identity.clone()));
        }
        let Caller::Node { name: node } = caller else {
            // Its account and its pod are there: the API server has just said so.
            let is_own = self.own_identity(caller).as_ref() == Some(identity);
            return is_own.then_some(()).ok_or_else(|| Refusal::NotOwn {
                caller: caller.to_string(),
                identity: identity.clone(),
            });
        };
        let mut state = self.state.clone();
        let mut verdict = Ok(());
        let allowed = state.wait_for(|state| {
            verdict = check(state, node, identity);
            verdict.is_ok()
        });
        match tokio::time::timeout(BEHIND, allowed).await {
            Ok(Ok(_)) => Ok(()),
            // Too late, or the controller stops: what was found last stands.
            Ok(Err(_)) | Err(_) => verdict,
        }
    }
}

/// Looks up on which node a pod of the newest state is.
pub(crate) fn node_of_pod(state: watch::Receiver<Arc<State>>) -> NodeOfPod {
    Box::new(move |wanted: &BoundPod| {
        let state = Arc::clone(&state.borrow());
        let found = state.loaded.objects.pod(&wanted.namespace, &wanted.name)?;
        let same = *found.uid == *wanted.uid;
        pod::node_name(found).filter(|_| same).map(str::to_owned)
    })
}

/// A node may have the identities of pods that are bound to it and not over. Whether they are enrolled does not matter:
/// the node's agent may know of a label before the controller does, and connections that are in the tunnel when a pod
/// leaves the mesh still end there. Whether the account exists is said only to a node that has such a pod: others learn
/// nothing about what exists elsewhere.
fn check(state: &State, node: &str, identity: &SpiffeId) -> Result<(), Refusal> {
    let (namespace, account) = (identity.namespace(), identity.service_account());
    if !state.placement.runs(node, namespace, account) {
        return Err(Refusal::NotOnNode {
            node: node.to_owned(),
            identity: identity.clone(),
        });
    }
    let accounts = &state.loaded.objects.service_accounts;
    if !accounts.contains_key(&ObjectName::new(namespace, account)) {
        return Err(Refusal::NoServiceAccount(identity.clone()));
    }
    Ok(())
}
