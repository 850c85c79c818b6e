//! Which waypoint a Service or a pod is to be reached through. There is none yet: node proxies refuse what has one, instead of
//! going past it.

use culvert_objects::{Asked, Namespace, ObjectName, Pod, Service, waypoint};
use culvert_proto::workload::{GatewayAddress, NamespacedHostname, gateway_address::Destination};

use super::reader::Reader;
use super::wire;

/// Where waypoints listen.
const HBONE: u32 = 15008;

/// A Service's: that of its own label, or else of its namespace's.
pub(super) fn of_service(reader: &Reader<'_>, name: &ObjectName, service: &Service) -> Option<GatewayAddress> {
    let own = service.metadata.labels.as_ref();
    match waypoint(|key| own?.get(key).map(String::as_str)) {
        Asked::Nothing => {
            let namespace = reader.get::<Namespace>(&name.home())?;
            let labels = namespace.metadata.labels.as_ref()?;
            address(reader, name, waypoint(|key| labels.get(key).map(String::as_str)))
        }
        asked => address(reader, name, asked),
    }
}

/// A pod's: that of its own label alone. A namespace's is for its Services, unless the waypoint says otherwise.
pub(super) fn of_pod(reader: &Reader<'_>, name: &ObjectName, pod: &Pod) -> Option<GatewayAddress> {
    address(reader, name, waypoint(|key| pod.labels.get(key)))
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
