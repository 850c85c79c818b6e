//! What the mesh's state decides about a connection, and what a change of it concerns.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use culvert_hbone::Authority;
use culvert_identity::SpiffeId;
use rustc_hash::FxHashSet;

use crate::{Service, Workload, waypoint::WaypointAt};

/// What to do with a connection that a pod of this node opens.
#[derive(Clone, Debug)]
pub enum Outbound {
    /// Carry it through HBONE.
    Tunnel {
        /// To whom.
        endpoint: Endpoint,
        /// The service that the application dialled, `namespace/hostname`, if any.
        service: Option<Arc<str>>,
    },
    /// Connect to this address in plaintext: a destination outside the mesh, or one that is not enrolled.
    Direct {
        /// Where to connect to: the original destination, or an endpoint of the service that was dialled.
        destination: SocketAddr,
        /// The workload there, if the mesh knows one.
        workload: Option<Arc<Workload>>,
        /// The service that the application dialled, if any.
        service: Option<Arc<str>>,
    },
    /// Ask the pod's resolver for the addresses of an endpoint, and decide about one of them: [`Mesh::resolved`](crate::Mesh::resolved).
    Resolve(Named),
    /// Not known yet: park until it is there.
    Pending(Awaited),
    /// Refuse; the reason goes to the access log.
    Deny(Denial),
}

/// An endpoint that is known by its DNS name alone.
#[derive(Clone, Debug)]
pub struct Named {
    /// The name, in lower case.
    pub host: Arc<str>,
    /// Where it serves what was dialled.
    pub port: u16,
    /// The endpoint.
    pub workload: Arc<Workload>,
    /// The service that the application dialled.
    pub service: Arc<Service>,
}

/// Where a connection has failed before: to be chosen again only where there is nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried<'a> {
    /// Targets.
    pub targets: &'a [SocketAddr],
    /// Names of endpoints, all of whose addresses have failed or which have none.
    pub names: &'a [Arc<str>],
}

impl Tried<'_> {
    /// Whether nothing has failed.
    pub const fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.names.is_empty()
    }
}

/// Who takes a connection in, and how it is asked to.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where its HBONE listener is.
    pub tunnel: SocketAddr,
    /// What `:authority` says: the address of the workload that is meant, or, where the listener is one that serves others
    /// too, possibly its name.
    pub authority: Authority,
    /// The identities that may answer. Never empty.
    pub identities: Arc<[SpiffeId]>,
    /// The workload that has the listener. Its uid belongs to what is known of a tunnel to it, since addresses are given to
    /// new workloads.
    pub workload: Arc<Workload>,
    /// The waypoint whose listener it is, where it is not that of whom was dialled.
    pub waypoint: Option<WaypointAt>,
}

impl Endpoint {
    /// By what an attempt here is told from those at other endpoints of the same destination: the address that is asked
    /// for, and where somebody else has the listener, the listener's.
    pub fn target(&self) -> SocketAddr {
        match &self.authority {
            Authority::Address(address) if address.ip() == self.tunnel.ip() => *address,
            Authority::Address(_) | Authority::Name { .. } => self.tunnel,
        }
    }
}

/// Whether a connection may reach a pod of this node.
#[derive(Clone, Debug)]
pub enum Inbound {
    /// Let it through.
    Allow,
    /// Refuse; the reason goes to the access log (and 401 to an HBONE peer).
    Deny(Denial),
    /// A policy or the pod's own workload has not arrived yet: park until it is there, deny at the deadline.
    Pending(Awaited),
}

/// What a connection waits for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Awaited {
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
    /// The controller's answer about a host name that was not asked for before: the service of a waypoint.
    #[error("the controller's answer about the waypoint {0}")]
    Host(Arc<str>),
    /// A policy that the pod's workload names.
    #[error("policy {0}, which is referenced but has not been received")]
    Policy(Arc<str>),
}

impl Awaited {
    /// The address about which something new must be known before it is worth another look; none if anything may help.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Configuration | Self::Policy(_) | Self::Host(_) => None,
            Self::Answer(address) | Self::Owner(address) | Self::OwnerOrRanges(address) | Self::Own(address) => {
                Some(*address)
            }
        }
    }
}

/// Why a connection was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
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
    /// Nobody is known at the address, and the pod's namespace allows nothing else.
    #[error("nothing that the mesh knows is at {address}, and namespace {namespace} is registry-only")]
    NotInRegistry {
        /// As dialled.
        address: IpAddr,
        /// The pod's.
        namespace: Arc<str>,
    },
    /// What was dialled is reached through a waypoint, which cannot be used.
    #[error("{what} is reached through waypoint {waypoint}, {why}")]
    NoWaypoint {
        /// A service's `namespace/hostname`, or a workload's uid.
        what: Arc<str>,
        /// The waypoint's service, `namespace/hostname`, or its address.
        waypoint: Arc<str>,
        /// What is missing.
        why: NoWaypoint,
    },
    /// The destination speaks a tunnel protocol that this proxy does not.
    #[error("{0}")]
    Unsupported(Arc<str>),
}

/// Why a waypoint cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWaypoint {
    /// The mesh knows no such service, or nobody at the address.
    #[error("which is not known")]
    Unknown,
    /// None of its pods is ready and takes tunnels in.
    #[error("which has no healthy endpoint")]
    NoEndpoint,
    /// Its service does not have the port of the tunnel.
    #[error("whose service has no port {0}")]
    NoPort(u16),
    /// Its address is in another network than this proxy.
    #[error("which is in another network")]
    OtherNetwork,
    /// There are several, and none of them is to get anything.
    #[error("and every waypoint that it names has the weight 0")]
    NoWeight,
}

impl Denial {
    /// All that [`reason`](Self::reason) may say.
    pub const REASONS: [&'static str; 9] = [
        "policy",
        "not_allowed",
        "not_known",
        "policy_missing",
        "no_endpoint",
        "no_port",
        "not_in_registry",
        "no_waypoint",
        "unsupported",
    ];

    /// Why, in a word: metrics count by it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Policy(_) => "policy",
            Self::NotAllowed => "not_allowed",
            Self::NotKnown(_) => "not_known",
            Self::PolicyMissing(_) => "policy_missing",
            Self::NoEndpoint(_) => "no_endpoint",
            Self::NoPort { .. } => "no_port",
            Self::NotInRegistry { .. } => "not_in_registry",
            Self::NoWaypoint { .. } => "no_waypoint",
            Self::Unsupported(_) => "unsupported",
        }
    }
}

/// Where two snapshots of the mesh differ.
#[derive(Clone, Debug, Default)]
pub struct MeshChange {
    /// In something that any connection may depend on: ranges, or that there is configuration at all.
    pub everything: bool,
    /// In policies, or in which of them bind a workload.
    pub policies: bool,
    /// In what is known of these addresses.
    pub addresses: FxHashSet<IpAddr>,
    /// In what is known of these host names, which are in lower case.
    pub hosts: FxHashSet<Arc<str>>,
}
