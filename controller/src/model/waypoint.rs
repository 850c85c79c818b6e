//! Which waypoint a Service or a pod is to be reached through. There is none yet: node proxies refuse what has one, instead of
//! going past it.

use culvert_objects::{Asked, Labels, Namespace, ObjectName, waypoint};
use culvert_proto::workload::{GatewayAddress, NamespacedHostname, gateway_address::Destination};

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
    match waypoint(label) {
        Asked::Nothing => {
            let namespace = reader.get::<Namespace>(&name.home())?;
            let labels = namespace.metadata.labels.as_ref()?;
            address(reader, name, waypoint(|key| labels.get(key).map(String::as_str)))
        }
        asked => address(reader, name, asked),
    }
}

/// A workload's: that of its own labels alone. A namespace's is for its Services, unless the waypoint says otherwise.
pub(super) fn of_workload(reader: &Reader<'_>, name: &ObjectName, labels: &Labels) -> Option<GatewayAddress> {
    address(reader, name, waypoint(|key| labels.get(key)))
}

fn address(reader: &Reader<'_>, of: &ObjectName, asked: Asked<'_>) -> Option<GatewayAddress> {
    let Asked::Waypoint { name, namespace, .. } = asked else {
        return None;
    };
    let service = ObjectName::new(namespace.unwrap_or(&of.namespace), name);
    Some(GatewayAddress {
        destination: Some(Destination::Hostname(NamespacedHostname {
            namespace: service.namespace.to_string(),
            hostname: wire::hostname(reader.settings(), &service),
        })),
        hbone_mtls_port: HBONE,
    })
}
