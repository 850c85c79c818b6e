//! A Service becomes a Service, and an entry in the `services` of each of its Workloads.

use std::collections::BTreeMap;
use std::net::IpAddr;

use culvert_objects::{ObjectName, Objects, Pod, Service};
use culvert_proto::workload::load_balancing::{HealthPolicy, Mode, Scope};
use culvert_proto::workload::{
    AppProtocol, Extension, IpFamilies, LoadBalancing, NetworkAddress, Port, PortList, Service as Resource,
};
use culvert_proto::{CLIENT_IP, SESSION_AFFINITY, TEXT_TYPE};
use k8s_openapi::api::core::v1::{Container, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use prost::Message as _;
use prost_types::Any;

use super::{Settings, pod, touched};

/// Istio's annotation for how near an endpoint should be, on a Service or its Namespace.
const DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

/// The resource, unless the Service is only a name for something elsewhere.
pub fn service(settings: &Settings, objects: &Objects, name: &ObjectName, service: &Service) -> Option<Resource> {
    let spec = service.spec.as_ref()?;
    if is_external(spec) {
        return None;
    }
    let addresses = spec
        .cluster_ips
        .iter()
        .flatten()
        .filter_map(|text| text.parse::<IpAddr>().ok());
    Some(Resource {
        name: name.name.clone(),
        namespace: name.namespace.clone(),
        hostname: hostname(settings, name),
        addresses: addresses
            .map(|a| NetworkAddress {
                address: pod::octets(a),
                ..NetworkAddress::default()
            })
            .collect(),
        ports: tcp_ports(spec).map(resource_port).collect(),
        load_balancing: load_balancing(objects, name, service, spec),
        ip_families: ip_families(spec).into(),
        // A Kubernetes Service is the only one that can own its hostname.
        canonical: true,
        extensions: session_affinity(spec).into_iter().collect(),
        ..Resource::default()
    })
}

/// The resource's name.
pub fn resource_name(settings: &Settings, name: &ObjectName) -> String {
    format!("{}/{}", name.namespace, hostname(settings, name))
}

fn hostname(settings: &Settings, name: &ObjectName) -> String {
    format!("{}.{}.svc.{}", name.name, name.namespace, settings.cluster_domain)
}

/// The ports of every Service that selects `pod`, by the Service's resource name.
pub fn of_pod(settings: &Settings, objects: &Objects, name: &ObjectName, pod: &Pod) -> BTreeMap<String, PortList> {
    let services = touched::in_namespace(&objects.services, &name.namespace);
    services
        .filter(|(_, service)| selects(service, pod))
        .map(|(service_name, service)| {
            let ports = service.spec.iter().flat_map(tcp_ports);
            let ports = ports
                .filter_map(|port| Some(workload_port(port, target(port, pod)?)))
                .collect();
            (resource_name(settings, service_name), PortList { ports })
        })
        .collect()
}

/// Whether the Service has a selector, and the pod's labels satisfy it.
pub fn selects(service: &Service, pod: &Pod) -> bool {
    let Some(spec) = service.spec.as_ref().filter(|spec| !is_external(spec)) else {
        return false;
    };
    let Some(selector) = spec.selector.as_ref().filter(|s| !s.is_empty()) else {
        return false;
    };
    let Some(labels) = &pod.metadata.labels else {
        return false;
    };
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether its endpoints are written by hand.
pub fn has_no_selector(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .is_some_and(|s| !is_external(s) && s.selector.as_ref().is_none_or(BTreeMap::is_empty))
}

/// The ports that the mesh carries. Istio sends UDP ports too, which a TCP proxy can only mistake for others.
pub fn tcp_ports(spec: &ServiceSpec) -> impl Iterator<Item = &ServicePort> {
    spec.ports
        .iter()
        .flatten()
        .filter(|port| port.protocol.as_deref().is_none_or(|p| p == "TCP"))
}

/// An entry of a Workload's list: where it serves the Service's port.
pub fn workload_port(port: &ServicePort, target: u32) -> Port {
    Port {
        service_port: number(port.port),
        target_port: target,
        app_protocol: AppProtocol::Unknown.into(),
    }
}

/// A port number; what is none was refused when the object was read.
pub fn number(port: i32) -> u32 {
    u16::try_from(port).unwrap_or_default().into()
}

fn is_external(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("ExternalName")
}

fn resource_port(port: &ServicePort) -> Port {
    let target = match &port.target_port {
        Some(IntOrString::Int(target)) => number(*target),
        // Differs by pod.
        Some(IntOrString::String(_)) => 0,
        None => number(port.port),
    };
    Port {
        service_port: number(port.port),
        target_port: target,
        app_protocol: app_protocol(port).into(),
    }
}

/// Where `pod` serves `port`; nowhere if it has no port of that name.
fn target(port: &ServicePort, pod: &Pod) -> Option<u32> {
    let name = match &port.target_port {
        Some(IntOrString::Int(target)) => return Some(number(*target)),
        Some(IntOrString::String(name)) => name,
        None => return Some(number(port.port)),
    };
    let spec = pod.spec.as_ref()?;
    let stays = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten().filter(stays));
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let found = ports.find(|p| p.name.as_ref() == Some(name) && p.protocol.as_deref().is_none_or(|p| p == "TCP"))?;
    Some(number(found.container_port))
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
        _ if matches!(port.port, 25 | 53 | 3306 | 27017) => AppProtocol::Tcp,
        _ => AppProtocol::Unknown,
    }
}

fn ip_families(spec: &ServiceSpec) -> IpFamilies {
    let families: Vec<&str> = spec.ip_families.iter().flatten().map(String::as_str).collect();
    match (families.contains(&"IPv4"), families.contains(&"IPv6")) {
        (true, true) => IpFamilies::Dual,
        (true, false) => IpFamilies::Ipv4Only,
        (false, true) => IpFamilies::Ipv6Only,
        (false, false) => IpFamilies::Automatic,
    }
}

fn load_balancing(
    objects: &Objects,
    name: &ObjectName,
    service: &Service,
    spec: &ServiceSpec,
) -> Option<LoadBalancing> {
    let (mode, scopes): (Mode, &[Scope]) = if spec.internal_traffic_policy.as_deref() == Some("Local") {
        (Mode::Strict, &[Scope::Node])
    } else {
        match distribution(objects, name, service, spec) {
            Some("PreferClose" | "PreferSameZone") => (Mode::Failover, &[Scope::Network, Scope::Region, Scope::Zone]),
            Some("PreferSameNode") => (
                Mode::Failover,
                &[Scope::Network, Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node],
            ),
            _ => (Mode::UnspecifiedMode, &[]),
        }
    };
    let publish = spec.publish_not_ready_addresses == Some(true);
    let health = if publish {
        HealthPolicy::AllowAll
    } else {
        HealthPolicy::OnlyHealthy
    };
    let found = LoadBalancing {
        routing_preference: scopes.iter().map(|scope| (*scope).into()).collect(),
        mode: mode.into(),
        health_policy: health.into(),
    };
    (found != LoadBalancing::default()).then_some(found)
}

/// `sessionAffinity`, for proxies that know it. How long it lasts (`sessionAffinityConfig`) is not told: they keep a client
/// where it is for as long as that endpoint is there.
fn session_affinity(spec: &ServiceSpec) -> Option<Extension> {
    (spec.session_affinity.as_deref() == Some(CLIENT_IP)).then(|| Extension {
        name: SESSION_AFFINITY.to_owned(),
        config: Some(Any {
            type_url: TEXT_TYPE.to_owned(),
            // For prost, a text is the well-known type of it.
            value: CLIENT_IP.to_owned().encode_to_vec(),
        }),
    })
}

/// The field, else the annotation, else the namespace's annotation.
fn distribution<'a>(
    objects: &'a Objects,
    name: &ObjectName,
    service: &'a Service,
    spec: &'a ServiceSpec,
) -> Option<&'a str> {
    let namespace = objects.namespace(&name.namespace);
    let annotations = [
        service.metadata.annotations.as_ref(),
        namespace.and_then(|n| n.metadata.annotations.as_ref()),
    ];
    let annotated = || {
        annotations
            .into_iter()
            .flatten()
            .find_map(|a| a.get(DISTRIBUTION))
            .map(String::as_str)
    };
    spec.traffic_distribution.as_deref().or_else(annotated)
}
