//! Workloads: what owns addresses.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::AtomicU32},
};

use culvert_identity::SpiffeId;

/// Something that owns addresses and, if it is in the mesh, has an identity. Usually a pod. Immutable but for
/// [`Workload::open`].
#[derive(Debug)]
pub(crate) struct Workload {
    /// The resource's name, e.g. `Kubernetes//Pod/default/a`.
    pub(crate) uid: Arc<str>,
    /// The pod's name.
    pub(crate) name: Arc<str>,
    /// The pod's namespace.
    pub(crate) namespace: Arc<str>,
    /// Its addresses, IPv4 never in its mapped form. May be empty.
    pub(crate) addresses: Box<[IpAddr]>,
    /// The DNS name by which alone the workload is known, if so.
    pub(crate) hostname: Option<Arc<str>>,
    /// The network in which the addresses mean something.
    pub(crate) network: Arc<str>,
    /// Whether connections to it travel in HBONE.
    pub(crate) hbone: bool,
    /// Who it is.
    pub(crate) identity: SpiffeId,
    /// The same as a list of one, ready for a decision.
    pub(crate) identities: Arc<[SpiffeId]>,
    /// The waypoint that all connections to the workload should pass, in words, if any.
    pub(crate) waypoint: Option<Arc<str>>,
    /// The gateway of the workload's network, in words, if any.
    pub(crate) network_gateway: Option<Arc<str>>,
    /// The workload serves HBONE itself.
    pub(crate) native_tunnel: bool,
    /// The application expects a protocol in front of each connection that this proxy does not speak.
    pub(crate) application_tunnel: bool,
    /// Name of its node.
    pub(crate) node: Arc<str>,
    /// Its cluster.
    pub(crate) cluster: Arc<str>,
    /// Where it runs.
    pub(crate) locality: Locality,
    /// The canonical service, for telemetry.
    pub(crate) canonical_name: Arc<str>,
    /// The canonical revision, for telemetry.
    pub(crate) canonical_revision: Arc<str>,
    /// The owner's name (a Deployment's), for telemetry.
    pub(crate) workload_name: Arc<str>,
    /// The owner's kind, for telemetry.
    pub(crate) kind: &'static str,
    /// The services of which the workload is an endpoint.
    pub(crate) services: Box<[Membership]>,
    /// `namespace/name` of policies that bind by selector.
    pub(crate) policies: Box<[Arc<str>]>,
    /// Whether it is ready for connections.
    pub(crate) healthy: bool,
    /// It shares its address with its node, and with others there.
    pub(crate) host_network: bool,
    /// Weight in load balancing.
    pub(crate) weight: u32,
    /// Connections that this proxy has open to it. The same counter through all versions of the workload.
    pub(crate) open: Arc<AtomicU32>,
}

/// A workload's part in a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    /// `namespace/hostname`.
    pub(crate) service: Arc<str>,
    /// Service port and the port where this workload serves it.
    pub(crate) ports: Box<[(u16, u16)]>,
}

/// Where a workload runs. Empty parts are unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Locality {
    /// Region.
    pub(crate) region: Arc<str>,
    /// Zone.
    pub(crate) zone: Arc<str>,
    /// Subzone.
    pub(crate) subzone: Arc<str>,
}

impl Workload {
    /// Where connections that went to `address` should go: the workload's address of the same family, else any.
    pub(crate) fn address_like(&self, address: IpAddr) -> Option<IpAddr> {
        self.addresses
            .iter()
            .find(|own| own.is_ipv4() == address.is_ipv4())
            .or(self.addresses.first())
            .copied()
    }
}
