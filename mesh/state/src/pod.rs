//! A pod of this node.

use std::{net::IpAddr, sync::Arc};

use culvert_identity::SpiffeId;

/// A pod of this node as the proxy knows it. Shared by every connection of the pod.
#[derive(Debug)]
pub struct Pod {
    /// The Kubernetes UID, by which the monitor names it.
    pub uid: Arc<str>,
    /// The pod's name.
    pub name: Arc<str>,
    /// The pod's namespace.
    pub namespace: Arc<str>,
    /// Who the pod is: what its certificate says.
    pub identity: SpiffeId,
    /// The pod's own addresses.
    pub addresses: Vec<IpAddr>,
    /// This node's name.
    pub node: Arc<str>,
}
