//! Who may have a certificate for which identity.

use culvert_identity::SpiffeId;

use super::Caller;

/// Why a caller does not get an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no running pod of node {node} has the identity {identity}")]
    NotOnNode { node: String, identity: SpiffeId },
    #[error("the service account of {0} does not exist")]
    NoServiceAccount(SpiffeId),
    #[error("{0} is of another trust domain")]
    TrustDomain(SpiffeId),
    #[error("{caller} may have no identity but its own, which {identity} is not")]
    NotOwn { caller: String, identity: SpiffeId },
}

/// Decides who may have which identity.
#[tonic::async_trait]
pub(crate) trait IssuancePolicy: Send + Sync + 'static {
    /// The identity that a caller gets when it names none. A node's programs have none of their own.
    fn own_identity(&self, caller: &Caller) -> Option<SpiffeId>;

    /// Whether a caller may have a certificate for an identity. Waits a moment where the answer may be about to change: a
    /// node asks for a pod as soon as it starts, and may know of it before the controller does.
    ///
    /// # Errors
    /// Why not.
    async fn check(&self, caller: &Caller, identity: &SpiffeId) -> Result<(), Refusal>;
}
