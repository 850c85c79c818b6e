//! The ports of Services, and where workloads serve them.

use culvert_objects::{EntryEndpoint, EntryPort, Pod};
use culvert_proto::workload::{AppProtocol, Port, PortList};
use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::wire::port as port_number;

/// The ports that the mesh carries. Istio sends UDP ports too, which a TCP proxy can only mistake for others.
pub(super) fn tcp_ports(spec: &ServiceSpec) -> impl Iterator<Item = &ServicePort> {
    spec.ports
        .iter()
        .flatten()
        .filter(|port| port.protocol.as_deref().is_none_or(|p| p == "TCP"))
}

/// An entry of a Workload's list: where it serves the Service's port.
pub(super) fn workload_port(port: &ServicePort, target: u32) -> Port {
    Port {
        service_port: port_number(port.port),
        target_port: target,
        app_protocol: AppProtocol::Unknown.into(),
    }
}

/// A port of a Service.
pub(super) fn resource_port(port: &ServicePort) -> Port {
    let target = match &port.target_port {
        Some(IntOrString::Int(target)) => port_number(*target),
        // Differs by pod.
        Some(IntOrString::String(_)) => 0,
        None => port_number(port.port),
    };
    Port {
        service_port: port_number(port.port),
        target_port: target,
        app_protocol: app_protocol(port).into(),
    }
}

/// Where `pod` serves `port`; nowhere if it has no port of that name.
pub(super) fn target(port: &ServicePort, pod: &Pod) -> Option<u32> {
    let name = match &port.target_port {
        Some(IntOrString::Int(target)) => return Some(port_number(*target)),
        Some(IntOrString::String(name)) => name,
        None => return Some(port_number(port.port)),
    };
    let found = pod.ports.iter().find(|port| *port.name == **name)?;
    Some(found.number.into())
}

/// Where a WorkloadEntry serves `port` of a Service; nowhere if it has no port of that name.
pub(super) fn target_of_entry(port: &ServicePort, endpoint: &EntryEndpoint) -> Option<u32> {
    match &port.target_port {
        Some(IntOrString::Int(target)) => Some(port_number(*target)),
        Some(IntOrString::String(name)) => endpoint.port(name).map(u32::from),
        None => Some(port_number(port.port)),
    }
}

/// A port of a ServiceEntry.
pub(super) fn of_entry(port: &EntryPort) -> Port {
    Port {
        service_port: port.number.into(),
        target_port: port.target.unwrap_or(port.number).into(),
        app_protocol: protocol_of(&port.protocol, port.number.into()).into(),
    }
}

/// Where an endpoint serves the ports of a ServiceEntry: at its own port of the name (`own`), else where the entry says.
pub(super) fn at_endpoint(ports: &[EntryPort], own: impl Fn(&str) -> Option<u16>) -> PortList {
    let port = |port: &EntryPort| {
        let named = Some(&*port.name).filter(|name| !name.is_empty()).and_then(&own);
        Port {
            service_port: port.number.into(),
            target_port: named.or(port.target).unwrap_or(port.number).into(),
            app_protocol: AppProtocol::Unknown.into(),
        }
    };
    PortList {
        ports: ports.iter().map(port).collect(),
    }
}

/// What the port says about its protocol: `appProtocol` first, then the first word of its name.
fn app_protocol(port: &ServicePort) -> AppProtocol {
    let word = match port.app_protocol.as_deref() {
        Some("kubernetes.io/h2c") => return AppProtocol::Http2,
        Some("kubernetes.io/ws") => return AppProtocol::Http11,
        Some("kubernetes.io/wss") => return AppProtocol::Tls,
        Some(word) => word,
        None => port.name.as_deref().unwrap_or_default(),
    };
    protocol_of(word, port.port)
}

/// What a word says about the protocol of a port.
fn protocol_of(word: &str, port: i32) -> AppProtocol {
    let word = word.to_ascii_lowercase();
    // One word, although it has a hyphen, and none that the L4 proxy knows.
    if word.starts_with("grpc-web") {
        return AppProtocol::Unknown;
    }
    match word.split('-').next().unwrap_or_default() {
        "http" => AppProtocol::Http11,
        "http2" => AppProtocol::Http2,
        "grpc" => AppProtocol::Grpc,
        "tcp" => AppProtocol::Tcp,
        "tls" | "https" => AppProtocol::Tls,
        "udp" | "http_proxy" | "mongo" | "redis" | "mysql" => AppProtocol::Unknown,
        // Protocols in which the server speaks first, so that nobody waits for the client's first bytes.
        _ if matches!(port, 25 | 53 | 3306 | 27017) => AppProtocol::Tcp,
        _ => AppProtocol::Unknown,
    }
}
