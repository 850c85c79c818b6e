//! A Service becomes a Service, and an entry in the `services` of each of its Workloads.

use std::collections::BTreeMap;
use std::net::IpAddr;

use culvert_objects::{Key, Namespace, ObjectName, Pod, Service, is_external, selector};
use culvert_proto::workload::load_balancing::{HealthPolicy, Mode, Scope};
use culvert_proto::workload::{Extension, IpFamilies, LoadBalancing, NetworkAddress, PortList, Service as Message};
use culvert_proto::{CLIENT_IP, SESSION_AFFINITY, TEXT_TYPE};
use k8s_openapi::api::core::v1::ServiceSpec;
use prost::Message as _;
use prost_types::Any;

use super::reader::Reader;
use super::{ports, waypoint, wire};

/// Istio's annotation for how near an endpoint should be, on a Service or its Namespace.
const DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

/// The resource, unless the Service is only a name for something elsewhere.
pub(super) fn service(reader: &Reader<'_>, name: &ObjectName, service: &Service) -> Option<Message> {
    let spec = service.spec.as_ref()?;
    if is_external(spec) {
        return None;
    }
    let addresses = spec
        .cluster_ips
        .iter()
        .flatten()
        .filter_map(|text| text.parse::<IpAddr>().ok());
    Some(Message {
        name: name.name.to_string(),
        namespace: name.namespace.to_string(),
        hostname: wire::hostname(reader.settings(), name),
        addresses: addresses
            .map(|a| NetworkAddress {
                address: wire::octets(a),
                ..NetworkAddress::default()
            })
            .collect(),
        ports: ports::tcp_ports(spec).map(ports::resource_port).collect(),
        load_balancing: load_balancing(reader, name, service, spec),
        ip_families: ip_families(spec).into(),
        // A Kubernetes Service is the only one that can own its hostname.
        canonical: true,
        waypoint: waypoint::of_service(reader, name, service),
        extensions: session_affinity(spec).into_iter().collect(),
        ..Message::default()
    })
}

/// The ports of every Service that selects `pod`, by the Service's resource name.
pub(super) fn of_pod(reader: &Reader<'_>, name: &ObjectName, pod: &Pod) -> BTreeMap<String, PortList> {
    let services = pod.labels.iter().flat_map(|(label, value)| {
        let key = Key::selector(&name.namespace, label, value);
        reader.find::<Service>(key)
    });
    services
        .filter(|(service_name, service)| service_name.namespace == name.namespace && selects(service, pod))
        .map(|(service_name, service)| {
            let ports = service.spec.iter().flat_map(ports::tcp_ports);
            let ports = ports
                .filter_map(|port| Some(ports::workload_port(port, ports::target(port, pod)?)))
                .collect();
            (wire::service_name(reader.settings(), service_name), PortList { ports })
        })
        .collect()
}

/// Whether the Service has a selector, and the pod's labels satisfy it.
fn selects(service: &Service, pod: &Pod) -> bool {
    selector(service).is_some_and(|selector| {
        let mut labels = selector.iter();
        labels.all(|(key, value)| pod.labels.get(key) == Some(value))
    })
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
    reader: &Reader<'_>,
    name: &ObjectName,
    service: &Service,
    spec: &ServiceSpec,
) -> Option<LoadBalancing> {
    let (mode, scopes): (Mode, &[Scope]) = if spec.internal_traffic_policy.as_deref() == Some("Local") {
        (Mode::Strict, &[Scope::Node])
    } else {
        match distribution(reader, name, service, spec) {
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
    reader: &Reader<'a>,
    name: &ObjectName,
    service: &'a Service,
    spec: &'a ServiceSpec,
) -> Option<&'a str> {
    let namespace = reader.get::<Namespace>(&name.home());
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
