//! Workloads: what owns addresses.

use std::{
    net::IpAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

use culvert_identity::SpiffeId;

use crate::waypoint::WeightedWaypoint;

/// Something that owns addresses and, if it is in the mesh, has an identity. Usually a pod. Immutable but for
/// [`Workload::open`].
#[derive(Debug)]
pub struct Workload {
    /// The resource's name, e.g. `Kubernetes//Pod/default/a`.
    pub uid: Arc<str>,
    /// The pod's name.
    pub name: Arc<str>,
    /// The pod's namespace.
    pub namespace: Arc<str>,
    /// Its addresses, IPv4 never in its mapped form. May be empty.
    pub addresses: Box<[IpAddr]>,
    /// The DNS name by which alone the workload is known, if so.
    pub hostname: Option<Arc<str>>,
    /// The network in which the addresses mean something.
    pub network: Arc<str>,
    /// Whether connections to it travel in HBONE.
    pub hbone: bool,
    /// Who it is.
    pub identity: SpiffeId,
    /// The same as a list of one, ready for a decision.
    pub identities: Arc<[SpiffeId]>,
    /// The waypoint that connections to the workload's own addresses pass, if any: one at most.
    pub waypoints: Box<[WeightedWaypoint]>,
    /// The ports of its own for which it has that waypoint; none where for all.
    pub waypoint_ports: Option<Box<[u16]>>,
    /// The gateway of the workload's network, in words, if any.
    pub network_gateway: Option<Arc<str>>,
    /// The workload serves HBONE itself.
    pub native_tunnel: bool,
    /// The application expects a protocol in front of each connection that this proxy does not speak.
    pub application_tunnel: bool,
    /// Name of its node.
    pub node: Arc<str>,
    /// Its cluster.
    pub cluster: Arc<str>,
    /// Where it runs.
    pub locality: Locality,
    /// The canonical service, for telemetry.
    pub canonical_name: Arc<str>,
    /// The canonical revision, for telemetry.
    pub canonical_revision: Arc<str>,
    /// The owner's name (a Deployment's), for telemetry.
    pub workload_name: Arc<str>,
    /// The owner's kind, for telemetry.
    pub kind: &'static str,
    /// The services of which the workload is an endpoint.
    pub services: Box<[Membership]>,
    /// `namespace/name` of policies that bind by selector.
    pub policies: Box<[Arc<str>]>,
    /// Whether it is ready for connections.
    pub health: Health,
    /// It is a pod, rather than an address that an object without a pod names.
    pub is_pod: bool,
    /// It shares its address with its node, and with others there.
    pub host_network: bool,
    /// While its node has no proxy, its connections go direct.
    pub falls_back: bool,
    /// Weight in load balancing.
    pub weight: u32,
    /// Connections that this proxy has open to it. The same counter through all versions of the workload.
    pub open: Arc<AtomicU32>,
    /// How much this proxy has failed to connect to it lately. The same through all versions.
    pub trouble: Arc<Trouble>,
}

/// Whether a workload is ready for connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is.
    Ready,
    /// It is about to end and still serves: of use where nothing else is.
    Terminating,
    /// It is not.
    NotReady,
}

/// Failed connection attempts, which are forgotten by and by.
#[derive(Debug, Default)]
pub struct Trouble {
    /// Seconds of the last failure since [`START`] in the upper half, the level then in the lower.
    packed: AtomicU64,
}

/// The moment from which seconds are counted.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Trouble {
    /// After so many seconds without another failure, half of it is forgotten.
    const HALF_LIFE: u64 = 10;
    const MOST: u64 = 64;

    /// A connection attempt failed.
    pub fn note(&self) {
        let level = (u64::from(self.level()) + 1).min(Self::MOST);
        self.packed
            .store(START.elapsed().as_secs() << 32 | level, Ordering::Relaxed);
    }

    /// A connection came about.
    pub fn clear(&self) {
        if self.packed.load(Ordering::Relaxed) != 0 {
            self.packed.store(0, Ordering::Relaxed);
        }
    }

    /// How much there is: 0 for none.
    pub fn level(&self) -> u32 {
        let packed = self.packed.load(Ordering::Relaxed);
        if packed == 0 {
            return 0;
        }
        let since = START.elapsed().as_secs().saturating_sub(packed >> 32);
        let halvings = (since / Self::HALF_LIFE).min(63);
        ((packed & u64::from(u32::MAX)) >> halvings) as u32
    }
}

/// A workload's part in a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// `namespace/hostname`.
    pub service: Arc<str>,
    /// Service port and the port where this workload serves it.
    pub ports: Box<[(u16, u16)]>,
}

/// Where a workload runs. Empty parts are unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locality {
    /// Region.
    pub region: Arc<str>,
    /// Zone.
    pub zone: Arc<str>,
    /// Subzone.
    pub subzone: Arc<str>,
}

impl Workload {
    /// Whether it takes part in load balancing as a matter of course.
    pub fn is_ready(&self) -> bool {
        self.health == Health::Ready
    }

    /// The identities of which one must answer for a connection to it: its own, and those that a service says its endpoints have.
    pub(crate) fn who_may_answer(&self, of_service: Option<&[SpiffeId]>) -> Arc<[SpiffeId]> {
        match of_service {
            Some(others) if !others.is_empty() => self.identities.iter().chain(others).cloned().collect(),
            _ => Arc::clone(&self.identities),
        }
    }

    /// The waypoints for connections to this port of its own.
    pub(crate) fn waypoints_for(&self, port: u16) -> &[WeightedWaypoint] {
        match &self.waypoint_ports {
            Some(ports) if !ports.contains(&port) => &[],
            _ => &self.waypoints,
        }
    }

    /// Whether it is known by its DNS name alone.
    pub fn is_named(&self) -> bool {
        self.addresses.is_empty() && self.hostname.is_some()
    }

    /// Where connections that went to `address` should go: the workload's address of the same family, else any.
    pub fn address_like(&self, address: IpAddr) -> Option<IpAddr> {
        self.addresses
            .iter()
            .find(|own| own.is_ipv4() == address.is_ipv4())
            .or(self.addresses.first())
            .copied()
    }
}
