//! A pod of this node.

use std::{net::IpAddr, sync::Arc};

use culvert_identity::SpiffeId;

/// A pod of this node as the proxy knows it. Shared by every connection of the pod.
#[derive(Debug)]
pub(crate) struct Pod {
    /// The Kubernetes UID, by which the monitor names it.
    pub(crate) uid: Arc<str>,
    /// The pod's name.
    pub(crate) name: Arc<str>,
    /// The pod's namespace.
    pub(crate) namespace: Arc<str>,
    /// Who the pod is: what its certificate says.
    pub(crate) identity: SpiffeId,
    /// The pod's own addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// This node's name.
    pub(crate) node: Arc<str>,
}
