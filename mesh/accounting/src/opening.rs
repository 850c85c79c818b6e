//! What is known about a connection when it begins.

use std::{net::SocketAddr, sync::Arc};

use culvert_identity::SpiffeId;
use culvert_policy::Remarks;
use culvert_state::{Pod, Workload};

/// Which way a connection goes, seen from the pod of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The pod opened it.
    Outbound,
    /// The pod accepts it.
    Inbound,
}

/// One end of a connection, as access log, metrics and policies see it. Empty strings where nothing is known.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// The identity proved by a certificate, never one guessed from an address.
    pub identity: Option<SpiffeId>,
    /// The workload that owns the address, if the mesh knows one.
    pub workload: Option<Arc<Workload>>,
}

/// What is known about a connection when it begins.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Which way.
    pub direction: Direction,
    /// The pod of this node.
    pub pod: Arc<Pod>,
    /// What the mesh knows about that pod: `Mesh::workload_of`.
    pub own: Option<Arc<Workload>>,
    /// Who connects.
    pub source: SocketAddr,
    /// Where to: outbound what the application dialled, or the endpoint once one is chosen; inbound the pod's address.
    pub destination: SocketAddr,
    /// What the application dialled, where that is another address: a service's.
    pub dialled: Option<SocketAddr>,
    /// The other end: outbound the destination, inbound the source.
    pub peer: Peer,
    /// The DNS name that led to the destination, where an endpoint is known by its name.
    pub hostname: Option<Arc<str>>,
    /// The service that was dialled, `namespace/hostname`.
    pub service: Option<Arc<str>>,
    /// The peer's HBONE listener (outbound) or the tunnel's far end (inbound), if the connection is in a tunnel.
    pub hbone_addr: Option<SocketAddr>,
    /// Whether mutual TLS carries it.
    pub encrypted: bool,
    /// How keys were exchanged there, by IANA's name of the group: `X25519MLKEM768`.
    pub key_exchange: Option<&'static str>,
    /// What policies say of it that decide nothing.
    pub remarks: Option<Arc<Remarks>>,
    /// Whether the kernel has carried it past the proxy, which only tells of it.
    pub by_kernel: bool,
}
