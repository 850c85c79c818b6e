//! Which waypoints a Service or a pod is to be reached through.

use std::collections::{BTreeMap, BTreeSet};

use culvert_objects::{Asked, Labels, Namespace, ObjectName, Pod, Service, WAYPOINT_FOR, is_gateways_own, waypoint};
use culvert_proto::workload::{
    GatewayAddress, NamespacedHostname, PortList, WeightedWaypoint, gateway_address::Destination,
};

use super::canary::{self, Asks, Canary, Fault};
use super::gateways::{self, Purpose};
use super::reader::Reader;
use super::wire;

/// Where waypoints listen.
const HBONE: u32 = 15008;

/// The waypoints of a Service or a ServiceEntry: those of its own labels, or else of its namespace's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waypoints {
    pub(super) primary: ObjectName,
    canary: Option<Canary>,
}

impl Waypoints {
    /// All of them.
    pub(super) fn names(&self) -> impl Iterator<Item = &ObjectName> {
        std::iter::once(&self.primary).chain(self.canary.as_ref().map(|canary| &canary.name))
    }
}

/// What a Service says of its waypoints.
#[derive(Default)]
pub(super) struct Told {
    /// The first.
    pub(super) waypoint: Option<GatewayAddress>,
    /// All with their weights, which are 100 together, where there is a canary.
    pub(super) weighted: Vec<WeightedWaypoint>,
}

/// What a Service or a ServiceEntry says of its waypoints.
pub(super) fn of_service(reader: &Reader<'_>, name: &ObjectName, own: &impl Asks) -> Told {
    let Some(found) = named(reader, name, own) else {
        return Told::default();
    };
    let weighted = |name: &ObjectName, weight| WeightedWaypoint {
        destination: Some(address(reader, name)),
        weight,
    };
    let both = found.canary.as_ref().map(|canary| {
        [
            weighted(&found.primary, 100_u32.saturating_sub(canary.weight)),
            weighted(&canary.name, canary.weight),
        ]
    });
    Told {
        waypoint: Some(address(reader, &found.primary)),
        weighted: both.into_iter().flatten().collect(),
    }
}

/// The same by their names.
pub(super) fn named(reader: &Reader<'_>, name: &ObjectName, own: &impl Asks) -> Option<Waypoints> {
    let (primary, canary, _) = looked_up(reader, name, own);
    Some(Waypoints {
        primary: primary?,
        canary,
    })
}

/// What is wrong with the canary that a Service or a ServiceEntry asks for.
pub(super) fn faults(reader: &Reader<'_>, name: &ObjectName, own: &impl Asks) -> Vec<Fault> {
    looked_up(reader, name, own).2
}

fn looked_up(
    reader: &Reader<'_>,
    name: &ObjectName,
    own: &impl Asks,
) -> (Option<ObjectName>, Option<Canary>, Vec<Fault>) {
    let own_asked = waypoint(|key| own.says(key));
    let namespace = match own_asked {
        Asked::Nothing => reader.get::<Namespace>(&name.home()),
        _ => None,
    };
    let primary = match namespace {
        Some(namespace) => asked(name, waypoint(|key| namespace.says(key))),
        None => asked(name, own_asked),
    };
    let (primary, unserved) = match primary {
        Some(primary) if is_not_for(reader, &primary, Purpose::has_services) => (None, Some(primary)),
        primary => (primary, None),
    };
    let (canary, mut faults) = canary::beside(reader, name, primary.as_ref(), own, namespace.map(|found| &**found));
    // What a namespace asks for may be for its pods.
    if let (Asked::Waypoint { label, .. }, Some(unserved)) = (own_asked, unserved) {
        faults.push(not_for(label, &unserved, "what is for Services goes past it"));
    }
    (primary, canary, faults)
}

/// Whether a waypoint is there, and says that it is for something else.
fn is_not_for(reader: &Reader<'_>, waypoint: &ObjectName, is_for: fn(Purpose) -> bool) -> bool {
    let purpose = gateways::purpose(reader, waypoint);
    purpose.is_some_and(|purpose| purpose != Purpose::Unknown && !is_for(purpose))
}

fn not_for(label: &str, waypoint: &ObjectName, instead: &str) -> Fault {
    (
        format!("metadata.labels[{label}]"),
        format!("the waypoint {waypoint} is for something else ({WAYPOINT_FOR} on its Gateway or class): {instead}"),
    )
}

/// A workload's: that of its own labels, or else of its namespace's, where that waypoint is for workloads. One that is not there is asked
/// for all the same, but by a namespace, whose waypoint is for its Services unless it says otherwise.
pub(super) fn of_workload(reader: &Reader<'_>, name: &ObjectName, labels: &Labels) -> Option<ObjectName> {
    let own_asked = waypoint(|key| labels.get(key));
    if own_asked == Asked::Nothing {
        let namespace = reader.get::<Namespace>(&name.home())?;
        let found = asked(name, waypoint(|key| namespace.says(key)))?;
        return gateways::purpose(reader, &found)?.has_workloads().then_some(found);
    }
    let found = asked(name, own_asked)?;
    (!is_not_for(reader, &found, Purpose::has_workloads)).then_some(found)
}

/// What is wrong with the waypoint that a pod's own labels ask for.
pub(super) fn fault_of_pod(reader: &Reader<'_>, name: &ObjectName, pod: &Pod) -> Option<Fault> {
    let own_asked = waypoint(|key| pod.labels.get(key));
    let Asked::Waypoint { label, .. } = own_asked else {
        return None;
    };
    if pod.is_host_network {
        let why = "the pod has its node's address, which is not reached through a waypoint";
        return Some((format!("metadata.labels[{label}]"), why.to_owned()));
    }
    let found = asked(name, own_asked)?;
    let why = || not_for(label, &found, "the pod is not reached through it by its own address");
    is_not_for(reader, &found, Purpose::has_workloads).then(why)
}

/// The waypoint of the Services that a pod belongs to, and the pod's ports for which that holds: who dials the pod's address gets no
/// further without it. Of several waypoints the first Service's by name counts. A canary gets
/// nothing of that, since a workload has no weights.
pub(super) fn of_services(
    reader: &Reader<'_>,
    services: &BTreeMap<String, PortList>,
) -> Option<(GatewayAddress, BTreeSet<u32>)> {
    let mut found: Option<(ObjectName, BTreeSet<u32>)> = None;
    for (resource, list) in services {
        let Some(name) = wire::service_of(reader.settings(), resource) else {
            continue;
        };
        let service = reader.get::<Service>(&name);
        let Some(waypoint) = service.and_then(|service| named(reader, &name, &**service)) else {
            continue;
        };
        let waypoint = waypoint.primary;
        let (first, ports) = found.get_or_insert_with(|| (waypoint.clone(), BTreeSet::new()));
        if *first == waypoint {
            ports.extend(list.ports.iter().map(|port| port.target_port));
        }
    }
    found.map(|(waypoint, ports)| (address(reader, &waypoint), ports))
}

/// Whether the labels are those of a waypoint's or gateway's own pods.
pub(super) fn is_ones_own(labels: &Labels) -> bool {
    is_gateways_own(|key| labels.get(key))
}

fn asked(of: &ObjectName, asked: Asked<'_>) -> Option<ObjectName> {
    let Asked::Waypoint { name, namespace, .. } = asked else {
        return None;
    };
    Some(ObjectName::new(namespace.unwrap_or(&of.namespace), name))
}

/// A waypoint's own Service has its name.
pub(super) fn address(reader: &Reader<'_>, waypoint: &ObjectName) -> GatewayAddress {
    GatewayAddress {
        destination: Some(Destination::Hostname(NamespacedHostname {
            namespace: waypoint.namespace.to_string(),
            hostname: wire::hostname(reader.settings(), waypoint),
        })),
        hbone_mtls_port: HBONE,
    }
}
