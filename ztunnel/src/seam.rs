//! The seam between the event loops, which own sockets and bytes, and the rest of the worker.
//!
//! Control (`culvert_control`) publishes immutable snapshots in [`Shared`]; loops read them and take no lock. Where a loop
//! needs something that is not there yet (an address that was never subscribed, a certificate that is still being signed),
//! it parks the connection, asks for it through [`Shared::asks`], and tries again when its mailbox says that it may be
//! there ([`LoopMessage::MeshChanged`]).

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
};

use arc_swap::ArcSwap;
use culvert_control::{Ask, CredentialsByIdentity};
use culvert_state::{Mesh, MeshChange, Pod};
use rustc_hash::FxHashSet;
use tokio::sync::mpsc::UnboundedSender;

use crate::wire::Report;

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
    /// The same for asking resolvers: see `culvert_net::dns::upstream_socket`.
    Datagrams(Arc<str>, Vec<OwnedFd>),
    /// Certificates changed: try those again that wait for one.
    CertificatesChanged,
    /// The mesh changed where this says: try parked connections again, check open inbound ones anew.
    MeshChanged(Arc<MeshChange>),
    /// The process may open hardly any more descriptors: give back those that are kept ready, and stop accepting for a
    /// moment.
    DescriptorsShort,
    /// To be dropped: the last loop to do so answers.
    Probe(Arc<Answer>),
    /// Accept nothing more, send GOAWAY, end when the last connection has ended.
    Drain,
}

/// Answers the monitor when every loop has dropped it.
#[derive(Debug)]
pub(crate) struct Answer(pub(crate) UnboundedSender<Report>);

impl Drop for Answer {
    fn drop(&mut self) {
        // The receiver is gone when the process ends.
        let _ = self.0.send(Report::Alive(true));
    }
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
    /// No listener: shows the SYNs of the pod's captured connections, some of which nobody else answers.
    SynTap,
    /// No listener: DNS queries for one of the pod's resolvers.
    Dns,
}

/// Two pods of this node that have a connection: see `worker::same_node`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Together {
    /// Who opened it, by its uid.
    pub(crate) client: Arc<str>,
    /// From which address.
    pub(crate) source: IpAddr,
    /// What was reached: an address of the other pod's.
    pub(crate) destination: SocketAddr,
}

/// A connection of two pods of this node that is open, and may not need the proxy the next time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) pair: Together,
    /// The service's address that the client has dialled, where each of its connections to it gets this endpoint.
    pub(crate) service: Option<SocketAddr>,
}

/// Addresses of pods to which connections of other pods of the node may go past the proxy, and who is told of such connections.
#[derive(Debug)]
pub(crate) struct SameNodeTargets {
    addresses: ArcSwap<FxHashSet<IpAddr>>,
    proposals: UnboundedSender<Proposal>,
}

impl SameNodeTargets {
    /// None yet.
    pub(crate) fn new(proposals: UnboundedSender<Proposal>) -> Self {
        Self {
            addresses: ArcSwap::default(),
            proposals,
        }
    }

    pub(crate) fn set(&self, addresses: FxHashSet<IpAddr>) {
        self.addresses.store(Arc::new(addresses));
    }

    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        self.addresses.load().contains(&address)
    }

    /// A connection is open to one of these addresses.
    pub(crate) fn tell(&self, client: &Pod, source: IpAddr, destination: SocketAddr, service: Option<SocketAddr>) {
        let pair = Together {
            client: Arc::clone(&client.uid),
            source: source.to_canonical(),
            destination,
        };
        // The receiver lives as long as the process.
        let _ = self.proposals.send(Proposal { pair, service });
    }
}

/// Everything that loops read.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Workloads, services and policies.
    pub(crate) mesh: Arc<ArcSwap<Mesh>>,
    /// Certificates by identity. A pod whose certificate is missing has its tunnel connections parked.
    pub(crate) credentials: Arc<ArcSwap<CredentialsByIdentity>>,
    /// Loops' questions to control.
    pub(crate) asks: tokio::sync::mpsc::UnboundedSender<Ask>,
    /// Loops' requests to the monitor for sockets: pod uid and how many.
    pub(crate) socket_requests: tokio::sync::mpsc::UnboundedSender<(Arc<str>, u32)>,
    /// The same for sockets to ask resolvers with; at the end, the number of the loop that asks.
    pub(crate) datagram_requests: tokio::sync::mpsc::UnboundedSender<(Arc<str>, u32, usize)>,
    /// Names of endpoints, for people who look.
    pub(crate) names: crate::names::ShownNames,
    /// Of which connections loops tell that they stay on this node.
    pub(crate) same_node: SameNodeTargets,
    /// Metrics and open connections.
    pub(crate) telemetry: Arc<crate::telemetry::Telemetry>,
}
