//! Who may share a tunnel.

use std::{net::SocketAddr, sync::Arc};

use culvert_identity::SpiffeId;
use culvert_state::{Endpoint, Pod};

/// Who may share a tunnel: connections of one pod of this node, since a tunnel says who that is, to one workload. That is
/// known by its uid, because addresses are given to new pods.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PoolKey {
    pod: Arc<str>,
    source: SpiffeId,
    /// Where to dial; also an address by which to see whether the workload is still there.
    pub(super) tunnel: SocketAddr,
    pub(super) workload: Arc<str>,
    /// Who may answer at the other end.
    pub(super) identities: Arc<[SpiffeId]>,
}

impl PoolKey {
    pub(super) fn new(pod: &Pod, endpoint: &Endpoint) -> Self {
        Self {
            pod: Arc::clone(&pod.uid),
            source: pod.identity.clone(),
            tunnel: endpoint.tunnel,
            workload: Arc::clone(&endpoint.workload.uid),
            identities: Arc::clone(&endpoint.identities),
        }
    }
}
