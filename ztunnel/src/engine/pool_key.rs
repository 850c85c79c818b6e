//! Who may share a tunnel.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use culvert_identity::SpiffeId;

use culvert_state::{Pod, Workload};

/// Who may share a tunnel: connections of one pod of this node, since a tunnel says who that is, to one workload. That is
/// known by its uid, because addresses are given to new pods.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PoolKey {
    pod: Arc<str>,
    source: SpiffeId,
    /// Where to dial.
    pub(super) node: SocketAddr,
    pub(super) workload: Arc<str>,
    /// The workload's address, by which to see whether it is still there.
    pub(super) address: IpAddr,
    /// Who may answer at the other end.
    pub(super) identities: Arc<[SpiffeId]>,
}

impl PoolKey {
    pub(super) fn new(
        pod: &Pod,
        node: SocketAddr,
        workload: &Workload,
        address: IpAddr,
        identities: Arc<[SpiffeId]>,
    ) -> Self {
        Self {
            pod: Arc::clone(&pod.uid),
            source: pod.identity.clone(),
            node,
            workload: Arc::clone(&workload.uid),
            address,
            identities,
        }
    }
}
