//! Services: names and virtual addresses in front of workloads.

use std::{net::IpAddr, sync::Arc};

use culvert_identity::SpiffeId;
use ipnet::IpNet;

use crate::{Workload, waypoint::WeightedWaypoint};

/// A named destination with virtual addresses.
#[derive(Debug)]
pub struct Service {
    /// `namespace/hostname`, the resource's name.
    pub name: Arc<str>,
    /// The short name.
    pub short_name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Fully qualified.
    pub hostname: Arc<str>,
    /// Virtual addresses and ranges, with their networks.
    pub addresses: Box<[(Arc<str>, IpNet)]>,
    /// What it serves.
    pub ports: Box<[ServicePort]>,
    /// Identities that may answer for it, beside those of its workloads.
    pub identities: Box<[SpiffeId]>,
    /// The waypoints that connections to the service pass, one of them each. None: they go to its endpoints.
    pub waypoints: Box<[WeightedWaypoint]>,
    /// How an endpoint is chosen.
    pub balancing: Balancing,
    /// The one that owns the hostname when several namespaces claim it.
    pub canonical: bool,
    /// The namespaces that see it; none where all do.
    pub seen_in: Option<Box<[Arc<str>]>>,
    /// Of which families its addresses are.
    pub families: Families,
}

/// Of which families a service's addresses are: its pods may have others, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Families {
    /// Those that it has.
    #[default]
    Any,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
}

/// A port of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// As dialled.
    pub port: u16,
    /// At the workload; none where it differs by workload.
    pub target: Option<u16>,
    /// What is spoken, for display.
    pub protocol: &'static str,
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balancing {
    /// What closeness means, most important first.
    pub preference: Box<[Closeness]>,
    /// What follows from it.
    pub mode: Mode,
    /// Endpoints that are not ready may be used too.
    pub allow_unhealthy: bool,
    /// All that a pod opens goes to one endpoint, as long as that is there.
    pub sticky: bool,
}

/// Something that source and endpoint may have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closeness {
    /// A cloud's region, `topology.kubernetes.io/region`.
    Region,
    /// A zone of the same region, `topology.kubernetes.io/zone`.
    Zone,
    /// A part of the same zone.
    Subzone,
    /// The same machine.
    Node,
    /// The same Kubernetes cluster.
    Cluster,
    /// The same network: addresses of one can be dialled from the other.
    Network,
}

/// What closeness does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    #[default]
    Any,
    /// Only endpoints that share everything in the preference.
    Strict,
    /// Those that share most of it, counted from the front.
    Failover,
    /// No endpoint is chosen: the original destination is dialled.
    Passthrough,
}

/// The workloads of one service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    pub(crate) list: Vec<Member>,
    /// How many have a weight other than 1. None: a draw needs no sum.
    pub(crate) weighted: usize,
}

/// One workload of a service.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) workload: Arc<Workload>,
    /// Which of [`Workload::services`] says so.
    pub(crate) slot: usize,
}

/// Where a pod of this node is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Here<'a> {
    /// As the controller says.
    Workload(&'a Workload),
    /// The controller has not said anything of the pod yet, but it is on this node.
    Node(&'a str),
}

impl Families {
    /// Whether an address is of one.
    pub fn include(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

impl Service {
    /// Whether pods of a namespace see it.
    pub fn is_seen_in(&self, namespace: &str) -> bool {
        let seen_in = self.seen_in.as_ref();
        seen_in.is_none_or(|namespaces| namespaces.iter().any(|one| **one == *namespace))
    }

    /// What it serves at this port, if it does.
    pub fn port(&self, port: u16) -> Option<ServicePort> {
        self.ports.iter().find(|candidate| candidate.port == port).copied()
    }
}

impl Member {
    /// The port at the workload, or none if it does not serve this one.
    pub(crate) fn target(&self, port: ServicePort) -> Option<u16> {
        let own = &self.workload.services[self.slot].ports;
        let own = own.iter().find(|(service, _)| *service == port.port);
        own.map(|(_, target)| *target).or(port.target)
    }
}

impl Closeness {
    /// Whether a pod of this node and an endpoint share this. What is unknown is not shared.
    pub(crate) fn shared(self, here: Here<'_>, b: &Workload) -> bool {
        let known = |a: &str, b: &str| !a.is_empty() && a == b;
        let a = match here {
            Here::Workload(workload) => workload,
            Here::Node(node) => return self == Self::Node && known(node, &b.node),
        };
        let (here, there) = (&a.locality, &b.locality);
        let is_node = known(&a.node, &b.node);
        // Most machines have no subzone, and many no zone: one machine is in one place all the same.
        let is_place = is_node && a.cluster == b.cluster && here == there;
        match self {
            Self::Region => is_place || known(&here.region, &there.region),
            // Zones of two regions may bear one name.
            Self::Zone => is_place || here.region == there.region && known(&here.zone, &there.zone),
            Self::Subzone => {
                is_place
                    || here.region == there.region && here.zone == there.zone && known(&here.subzone, &there.subzone)
            }
            Self::Node => is_node,
            Self::Cluster => known(&a.cluster, &b.cluster),
            Self::Network => a.network == b.network,
        }
    }
}

/// The address of a network of one.
pub(crate) fn single(net: &IpNet) -> Option<IpAddr> {
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}
