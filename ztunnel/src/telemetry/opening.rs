//! What is known about a connection when it begins.

use std::{net::SocketAddr, sync::Arc};

use culvert_identity::SpiffeId;

use culvert_state::{Pod, Workload};

/// Which way a connection goes, seen from the pod of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    /// The pod opened it.
    Outbound,
    /// The pod accepts it.
    Inbound,
}

/// One end of a connection, as access log, metrics and policies see it. Empty strings where nothing is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// The identity proved by a certificate, never one guessed from an address.
    pub(crate) identity: Option<SpiffeId>,
    /// The workload that owns the address, if the mesh knows one.
    pub(crate) workload: Option<Arc<Workload>>,
}

/// What is known about a connection when it begins.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    /// Which way.
    pub(crate) direction: Direction,
    /// The pod of this node.
    pub(crate) pod: Arc<Pod>,
    /// What the mesh knows about that pod: `Mesh::workload_of`.
    pub(crate) own: Option<Arc<Workload>>,
    /// Who connects.
    pub(crate) source: SocketAddr,
    /// Where to: outbound what the application dialled, or the endpoint once one is chosen; inbound the pod's address.
    pub(crate) destination: SocketAddr,
    /// What the application dialled, where that is another address: a service's.
    pub(crate) dialled: Option<SocketAddr>,
    /// The other end: outbound the destination, inbound the source.
    pub(crate) peer: Peer,
    /// The service that was dialled, `namespace/hostname`.
    pub(crate) service: Option<Arc<str>>,
    /// The peer's HBONE listener (outbound) or the tunnel's far end (inbound), if the connection is in a tunnel.
    pub(crate) hbone_addr: Option<SocketAddr>,
    /// Whether mutual TLS carries it.
    pub(crate) encrypted: bool,
}
