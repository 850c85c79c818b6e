//! Which waypoint a Service or a pod is to be reached through.

use std::collections::{BTreeMap, BTreeSet};

use culvert_objects::{Asked, KindSpec as _, Labels, Namespace, ObjectName, Service, is_gateways_own, waypoint};
use culvert_proto::workload::{GatewayAddress, NamespacedHostname, PortList, gateway_address::Destination};

use super::reader::Reader;
use super::wire;

/// Where waypoints listen.
const HBONE: u32 = 15008;

/// A Service's or a ServiceEntry's: that of its own labels, or else of its namespace's.
pub(super) fn of_service<'a>(
    reader: &Reader<'_>,
    name: &ObjectName,
    label: impl Fn(&str) -> Option<&'a str>,
) -> Option<GatewayAddress> {
    Some(address(reader, &named(reader, name, label)?))
}

/// The same by its name.
pub(super) fn named<'a>(
    reader: &Reader<'_>,
    name: &ObjectName,
    label: impl Fn(&str) -> Option<&'a str>,
) -> Option<ObjectName> {
    match waypoint(label) {
        Asked::Nothing => {
            let namespace = reader.get::<Namespace>(&name.home())?;
            let labels = namespace.metadata.labels.as_ref()?;
            asked(name, waypoint(|key| labels.get(key).map(String::as_str)))
        }
        own => asked(name, own),
    }
}

/// A workload's: that of its own labels alone. A namespace's is for its Services, unless the waypoint says otherwise.
pub(super) fn of_workload(reader: &Reader<'_>, name: &ObjectName, labels: &Labels) -> Option<GatewayAddress> {
    Some(address(reader, &asked(name, waypoint(|key| labels.get(key)))?))
}

/// The waypoint of the Services that a pod belongs to, and the pod's ports for which that holds: who dials the pod's address gets no
/// further without it. Of several waypoints the first Service's by name counts.
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
        let Some(waypoint) = service.and_then(|service| named(reader, &name, |key| service.label(key))) else {
            continue;
        };
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
fn address(reader: &Reader<'_>, waypoint: &ObjectName) -> GatewayAddress {
    GatewayAddress {
        destination: Some(Destination::Hostname(NamespacedHostname {
            namespace: waypoint.namespace.to_string(),
            hostname: wire::hostname(reader.settings(), waypoint),
        })),
        hbone_mtls_port: HBONE,
    }
}
