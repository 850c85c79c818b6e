//! The seam between the event loops, which own sockets and bytes, and control, which owns configuration.
//!
//! Control publishes immutable snapshots in [`Shared`]; loops read them and take no lock. Where a loop needs something
//! that is not there yet (an address that was never subscribed, a certificate that is still being signed), it parks the
//! connection, asks for it through [`Shared::asks`], and tries again when its mailbox says that it may be there
//! ([`LoopMessage::MeshChanged`]).

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
};

use arc_swap::ArcSwap;
use culvert_identity::{Credentials, SpiffeId};
use rustc_hash::FxHashMap;

use crate::state::Mesh;

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

/// One end of a connection, as access log, metrics and policies see it. Empty strings where nothing is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// The identity proved by a certificate, never one guessed from an address.
    pub(crate) identity: Option<SpiffeId>,
    /// The workload that owns the address, if the mesh knows one.
    pub(crate) workload: Option<Arc<crate::state::Workload>>,
}

/// What to do with a connection that a pod of this node opens.
#[derive(Clone, Debug)]
pub(crate) enum Outbound {
    /// Carry it through HBONE.
    Tunnel {
        /// Where the peer's HBONE listener is.
        node: SocketAddr,
        /// What `:authority` says: the destination workload's address and port.
        authority: SocketAddr,
        /// The identities that may answer. Never empty.
        identities: Arc<[SpiffeId]>,
        /// Destination workload; its uid belongs to the pool key, since addresses are reused.
        workload: Arc<crate::state::Workload>,
        /// The service that the application dialled, `namespace/hostname`, if any.
        service: Option<Arc<str>>,
    },
    /// Connect to this address in plaintext: a destination outside the mesh, or one that is not enrolled.
    Direct {
        /// Where to connect to: the original destination, or an endpoint of the service that was dialled.
        destination: SocketAddr,
        /// The workload there, if the mesh knows one.
        workload: Option<Arc<crate::state::Workload>>,
        /// The service that the application dialled, if any.
        service: Option<Arc<str>>,
    },
    /// Not known yet: park until it is there.
    Pending(Awaited),
    /// Refuse; the reason goes to the access log.
    Deny(Denial),
}

/// Whether a connection may reach a pod of this node.
#[derive(Clone, Debug)]
pub(crate) enum Inbound {
    /// Let it through.
    Allow,
    /// Refuse; the reason goes to the access log (and 401 to an HBONE peer).
    Deny(Denial),
    /// A policy or the pod's own workload has not arrived yet: park until it is there, deny at the deadline.
    Pending(Awaited),
}

/// What a connection waits for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Awaited {
    /// The controller's first answers.
    #[error("configuration from the controller")]
    Configuration,
    /// The controller's answer about an address that was not asked for before.
    #[error("the controller's answer about {0}")]
    Answer(IpAddr),
    /// Somebody at an address of the mesh at which nobody is known: on its way, or gone.
    #[error("a workload or service at {0}: the address is in the mesh's ranges, and none is known there")]
    Owner(IpAddr),
    /// The same, where the mesh's ranges are not known and the address is a private one.
    #[error(
        "a workload or service at {0}: the address is private, none is known there, and the mesh's ranges are not known \
         (from the controller or --mesh-cidr)"
    )]
    OwnerOrRanges(IpAddr),
    /// What the controller says of the pod of this node that has this address.
    #[error("the controller's word on the pod at {0}")]
    Own(IpAddr),
    /// A policy that the pod's workload names.
    #[error("policy {0}, which is referenced but has not been received")]
    Policy(Arc<str>),
}

impl Awaited {
    /// The address about which something new must be known before it is worth another look; none if anything may help.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Configuration | Self::Policy(_) => None,
            Self::Answer(address) | Self::Owner(address) | Self::OwnerOrRanges(address) | Self::Own(address) => {
                Some(*address)
            }
        }
    }
}

/// Why a connection was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
    /// A DENY policy matched.
    #[error("denied by policy {0}")]
    Policy(Arc<str>),
    /// ALLOW policies apply and none matched.
    #[error("no ALLOW policy matches")]
    NotAllowed,
    /// Nobody is known at an address where nothing may be sent in plaintext, though it was waited for.
    #[error("waited in vain for {0}")]
    NotKnown(Awaited),
    /// The workload names a policy that has not been received.
    #[error("policy {0} is referenced but has not been received")]
    PolicyMissing(Arc<str>),
    /// The dialled service has no endpoint that may be used.
    #[error("service {0} has no healthy endpoint")]
    NoEndpoint(Arc<str>),
    /// The dialled service does not serve this port.
    #[error("service {service} has no port {port}")]
    NoPort {
        /// `namespace/hostname`.
        service: Arc<str>,
        /// As dialled.
        port: u16,
    },
    /// The destination speaks a tunnel protocol or needs a waypoint that this proxy cannot reach.
    #[error("{0}")]
    Unsupported(Arc<str>),
}

/// What loops ask of control. Sent over an unbounded channel; control removes duplicates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ask {
    /// Subscribe to whatever has this address.
    Address(IpAddr),
    /// Connections went to these addresses lately, or are open to them: they stay subscribed.
    Used(Vec<IpAddr>),
    /// Get a certificate for this identity.
    Certificate(SpiffeId),
}

/// Where two snapshots of the mesh differ.
#[derive(Clone, Debug, Default)]
pub(crate) struct MeshChange {
    /// In something that any connection may depend on: ranges, or that there is configuration at all.
    pub(crate) everything: bool,
    /// In policies, or in which of them bind a workload.
    pub(crate) policies: bool,
    /// In what is known of these addresses.
    pub(crate) addresses: rustc_hash::FxHashSet<IpAddr>,
}

/// What reaches a loop from outside, through its mailbox (an eventfd wakes it).
#[derive(Debug)]
pub(crate) enum LoopMessage {
    /// A pod to serve, with its listening sockets. For a uid that is known already (the agent restarted and made new
    /// sockets) they come in addition: what waits in the backlog of the earlier ones must still be accepted.
    PodAdded(Arc<Pod>, Vec<(ListenerRole, OwnedFd)>),
    /// Accept nothing more for this pod; what is open goes on until it ends.
    PodRemoved(Arc<str>),
    /// Unconnected sockets in the pod's namespace.
    Sockets(Arc<str>, Vec<OwnedFd>),
    /// The mesh or the certificates changed: try parked connections again, re-check open inbound ones.
    Changed,
    /// Certificates changed, and nothing else.
    CertificatesChanged,
    /// The mesh changed where this says.
    MeshChanged(Arc<MeshChange>),
    /// The process may open hardly any more descriptors: give back those that are kept ready, and stop accepting for a
    /// moment.
    DescriptorsShort,
    /// Accept nothing more, send GOAWAY, end when the last connection has ended.
    Drain,
}

/// What a listening socket is for; see `zds.proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ListenerRole {
    /// Captured connections of the pod's applications.
    Outbound,
    /// Plaintext from outside the mesh, any port.
    InboundPlaintext,
    /// HBONE.
    InboundHbone,
}

/// Everything that loops read.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Workloads, services and policies.
    pub(crate) mesh: ArcSwap<Mesh>,
    /// Certificates by identity. A pod whose certificate is missing has its tunnel connections parked.
    pub(crate) credentials: ArcSwap<FxHashMap<SpiffeId, Arc<Credentials>>>,
    /// Loops' questions to control.
    pub(crate) asks: tokio::sync::mpsc::UnboundedSender<Ask>,
    /// Loops' requests to the monitor for sockets: pod uid and how many.
    pub(crate) socket_requests: tokio::sync::mpsc::UnboundedSender<(Arc<str>, u32)>,
    /// Metrics and open connections.
    pub(crate) telemetry: Arc<crate::telemetry::Telemetry>,
}
