//! A Service becomes a Service, and an entry in the `services` of each of its Workloads.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use culvert_objects::{
    EntryEndpoint, Key, Labels, Namespace, ObjectName, Pod, Service, TRAFFIC_DISTRIBUTION, TrafficDistribution,
    WorkloadEntry, is_external, selector,
};
use culvert_proto::workload::load_balancing::{HealthPolicy, Mode, Scope};
use culvert_proto::workload::{Extension, IpFamilies, LoadBalancing, NetworkAddress, PortList, Service as Message};
use culvert_proto::{CLIENT_IP, SESSION_AFFINITY, extension_of_text};
use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};

use super::reader::Reader;
use super::{ports, waypoint, wire};

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
    let waypoints = waypoint::of_service(reader, name, service);
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
        waypoint: waypoints.waypoint,
        weighted_waypoints: waypoints.weighted,
        extensions: session_affinity(spec).into_iter().collect(),
        ..Message::default()
    })
}

/// The ports of every Service that selects `pod`, by the Service's resource name.
pub(super) fn of_pod(reader: &Reader<'_>, name: &ObjectName, pod: &Pod) -> BTreeMap<String, PortList> {
    selecting(reader, &name.namespace, &pod.labels, |port| ports::target(port, pod))
}

/// The same of a WorkloadEntry.
pub(super) fn of_workload_entry(
    reader: &Reader<'_>,
    name: &ObjectName,
    entry: &WorkloadEntry,
    endpoint: &EntryEndpoint,
) -> BTreeMap<String, PortList> {
    selecting(reader, &name.namespace, &entry.labels, |port| {
        ports::target_of_entry(port, endpoint)
    })
}

/// The Services that select a workload of `namespace` with these labels, and where it serves their ports.
fn selecting(
    reader: &Reader<'_>,
    namespace: &Arc<str>,
    labels: &Labels,
    target: impl Fn(&ServicePort) -> Option<u32>,
) -> BTreeMap<String, PortList> {
    let services = labels.iter().flat_map(|(label, value)| {
        let key = Key::selector(namespace, label, value);
        reader.find::<Service>(key)
    });
    services
        .filter(|(name, service)| name.namespace == *namespace && selects(service, labels))
        .map(|(name, service)| {
            let ports = service.spec.iter().flat_map(ports::tcp_ports);
            let ports = ports
                .filter_map(|port| Some(ports::workload_port(port, target(port)?)))
                .collect();
            (wire::service_name(reader.settings(), name), PortList { ports })
        })
        .collect()
}

/// Whether the Service has a selector, and the labels satisfy it.
fn selects(service: &Service, labels: &Labels) -> bool {
    selector(service).is_some_and(|selector| {
        let mut asked = selector.iter();
        asked.all(|(key, value)| labels.get(key) == Some(value))
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
    let annotations = service.metadata.annotations.as_ref();
    let annotation = |key: &str| annotations?.get(key).map(String::as_str);
    let (mode, scopes) = if spec.internal_traffic_policy.as_deref() == Some("Local") {
        (Mode::Strict, [Scope::Node].as_slice())
    } else {
        let field = spec.traffic_distribution.as_deref();
        preference(field.or_else(|| annotated(reader, name, annotation)))
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

/// How near endpoints should be, by an annotation alone.
pub(super) fn distributed<'a>(
    reader: &Reader<'a>,
    name: &ObjectName,
    annotation: impl Fn(&str) -> Option<&'a str>,
) -> Option<LoadBalancing> {
    let (mode, scopes) = preference(annotated(reader, name, annotation));
    (mode != Mode::UnspecifiedMode).then(|| LoadBalancing {
        routing_preference: scopes.iter().map(|scope| (*scope).into()).collect(),
        mode: mode.into(),
        ..LoadBalancing::default()
    })
}

/// What a traffic distribution means; of an unknown one the source of the objects has said that it means nothing.
fn preference(distribution: Option<&str>) -> (Mode, &'static [Scope]) {
    match distribution.map(TrafficDistribution::parse) {
        Some(Ok(TrafficDistribution::SameZone)) => (Mode::Failover, &[Scope::Network, Scope::Region, Scope::Zone]),
        Some(Ok(TrafficDistribution::SameNode)) => (
            Mode::Failover,
            &[Scope::Network, Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node],
        ),
        Some(Ok(TrafficDistribution::Any) | Err(_)) | None => (Mode::UnspecifiedMode, &[]),
    }
}

/// `sessionAffinity`, for proxies that know it. How long it lasts (`sessionAffinityConfig`) is not told: they keep a client
/// where it is for as long as that endpoint is there.
fn session_affinity(spec: &ServiceSpec) -> Option<Extension> {
    let is_sticky = spec.session_affinity.as_deref() == Some(CLIENT_IP);
    is_sticky.then(|| extension_of_text(SESSION_AFFINITY, CLIENT_IP))
}

/// The object's own annotation, else its namespace's.
fn annotated<'a>(
    reader: &Reader<'a>,
    name: &ObjectName,
    annotation: impl Fn(&str) -> Option<&'a str>,
) -> Option<&'a str> {
    let of_namespace = || {
        let namespace = reader.get::<Namespace>(&name.home())?;
        let annotations = namespace.metadata.annotations.as_ref()?;
        annotations.get(TRAFFIC_DISTRIBUTION).map(String::as_str)
    };
    annotation(TRAFFIC_DISTRIBUTION).or_else(of_namespace)
}
