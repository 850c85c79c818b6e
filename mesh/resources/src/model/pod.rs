//! A pod becomes a Workload, in the mesh or not: its node's proxy, and those that talk to it, need to know both.

use std::collections::BTreeMap;
use std::sync::Arc;

use culvert_objects::{
    Enrolment, FALLBACK_ANNOTATION, Fallback, Finding, Key, Kind, Namespace, Node, ObjectName, Pod, Severity,
    enrolment, service_account,
};
use culvert_proto::security::Authorization;
use culvert_proto::workload::{Locality, NetworkMode, PortList, TunnelProtocol, Workload, WorkloadType};
use culvert_proto::{DIRECT, FALLBACK, WAYPOINT_PORTS, extension_of_text};

use super::agents::Agents;
use super::health::Health;
use super::reader::Reader;
use super::{bypass, names, policy, restriction, service, service_entry, slice, tunnel, waypoint, wire};
use crate::snapshot::{PROXY_TYPE, Resource, place_of_pod};

/// What a pod becomes.
pub(super) struct Made {
    pub(super) workload: Workload,
    /// The policies by which none but waypoints reach it.
    pub(super) policies: Vec<Authorization>,
    /// Why it is not in the mesh although its label says so, and what is wrong with the waypoint that it asks for.
    pub(super) findings: Vec<Finding>,
}

/// What `pod` becomes, unless it has no address yet or has ended.
pub(super) fn workload(reader: &Reader<'_>, agents: &Agents, name: &ObjectName, pod: &Pod) -> Option<Made> {
    if pod.addresses.is_empty() || pod.has_ended {
        return None;
    }
    let settings = reader.settings();
    let node = node_name(pod).unwrap_or_default();
    let workload_name = names::workload_name(pod);
    let mut services = service::of_pod(reader, name, pod);
    let by_slices = slice::services_of_pod(reader, name, pod);
    for (service, ports) in by_slices.into_iter().chain(of_entries(reader, name, pod)) {
        services.entry(service).or_insert(ports);
    }
    let (is_tunnelled, finding) = match is_tunnelled(reader, agents, name, pod) {
        _ if *name.namespace == *settings.system_namespace => (false, None),
        Ok(is_tunnelled) => (is_tunnelled, None),
        Err(finding) => (false, Some(*finding)),
    };
    let mut policies = policy::of_workload(reader, &name.namespace, &pod.labels);
    policies.extend(restriction::of_workload(
        reader,
        &name.namespace,
        &pod.labels,
        &services,
    ));
    // An address that is the node's is not the pod's to send through a waypoint.
    let own_waypoint = waypoint::of_workload(reader, name, &pod.labels).filter(|_| !pod.is_host_network);
    let bypass = bypass::policies(reader, &name.namespace, &pod.labels, own_waypoint.as_ref(), &services);
    policies.extend(bypass::names(&bypass));
    let own_waypoint = own_waypoint.map(|found| waypoint::address(reader, &found));
    let of_services = match (&own_waypoint, waypoint::is_ones_own(&pod.labels)) {
        (None, false) => waypoint::of_services(reader, &services),
        _ => None,
    };
    let mut workload = Workload {
        uid: wire::pod_uid(settings, name),
        name: name.name.to_string(),
        namespace: name.namespace.to_string(),
        addresses: pod.addresses.iter().copied().map(wire::octets).collect(),
        tunnel_protocol: if is_tunnelled {
            TunnelProtocol::Hbone
        } else {
            TunnelProtocol::None
        }
        .into(),
        trust_domain: wire::trust_domain(settings),
        service_account: service_account(pod).to_owned(),
        node: node.to_owned(),
        canonical_name: names::canonical_name(&pod.labels, &workload_name),
        canonical_revision: names::canonical_revision(&pod.labels),
        workload_type: WorkloadType::Pod.into(),
        workload_name,
        native_tunnel: is_tunnelled && tunnel::is_native(&pod.labels),
        services: services.into_iter().collect(),
        authorization_policies: policies,
        waypoint: own_waypoint,
        cluster_id: settings.cluster_id.clone(),
        locality: locality_of_node(reader, node),
        network_mode: if pod.is_host_network {
            NetworkMode::HostNetwork
        } else {
            NetworkMode::Standard
        }
        .into(),
        ..Workload::default()
    };
    Health::of_pod(pod).tell(&mut workload);
    if is_tunnelled && falls_back(reader, name, pod) {
        workload.extensions.push(extension_of_text(FALLBACK, DIRECT));
    }
    if let Some((waypoint, ports)) = of_services {
        workload.waypoint = Some(waypoint);
        let ports: Vec<String> = ports.iter().map(u32::to_string).collect();
        workload
            .extensions
            .push(extension_of_text(WAYPOINT_PORTS, &ports.join(",")));
    }
    let of_waypoint = waypoint::fault_of_pod(reader, name, pod)
        .map(|(field, why)| Finding::of_object(Kind::Pod, name, &field, why).of_severity(Severity::Warning));
    Some(Made {
        workload,
        policies: bypass,
        findings: finding.into_iter().chain(of_waypoint).collect(),
    })
}

/// What says which waypoint the pod is of, if it is of one, and where it is: by this its programs are told what is for that waypoint, and
/// for one in that place.
pub(super) fn proxy(reader: &Reader<'_>, pod: &Pod) -> Option<Resource> {
    let gateway = pod.gateway().filter(|_| !pod.has_ended)?;
    let scope: Arc<str> = gateway.to_string().into();
    let node = node_name(pod).unwrap_or_default();
    let place = locality_of_node(reader, node).unwrap_or_default();
    let places = [
        node.to_owned(),
        format!("{}/{}/{}", place.region, place.zone, place.subzone),
        place_of_pod(&pod.name.name),
    ];
    Some(Resource::scoped(
        PROXY_TYPE,
        &scope,
        &pod.name.to_string(),
        places.join("\n").into_bytes(),
        &[],
    ))
}

/// The hosts of ServiceEntries that it is an endpoint of: they select it, or list one of its addresses. A port of the entry is
/// the container's of the same name.
fn of_entries(reader: &Reader<'_>, name: &ObjectName, pod: &Pod) -> BTreeMap<String, PortList> {
    let own = |name: &str| {
        let found = pod.ports.iter().find(|port| *port.name == *name)?;
        Some(found.number)
    };
    let mut found = service_entry::listing(reader, pod.own_addresses());
    found.extend(service_entry::selecting(reader, &name.namespace, &pod.labels, own));
    found
}

/// Whether others reach the pod through the tunnel, and it gets a certificate. By label, where an agent serves the node; or
/// because Istio's agent says that it has enrolled the pod; or because the pod serves the tunnel itself.
fn is_tunnelled(reader: &Reader<'_>, agents: &Agents, name: &ObjectName, pod: &Pod) -> Result<bool, Box<Finding>> {
    if pod.is_host_network {
        return Ok(false);
    }
    let namespace = reader.get::<Namespace>(&name.home());
    let labels = namespace.and_then(|namespace| namespace.metadata.labels.as_ref());
    if tunnel::is_there(&pod.labels, &pod.annotations) {
        return Ok(true);
    }
    // An unknown value does not enrol; the source of the objects has reported it.
    if !matches!(enrolment(labels, pod), Ok(Enrolment::Ambient)) {
        return Ok(false);
    }
    let node = node_name(pod).unwrap_or_default();
    reader.note(Key::agent_on(node));
    if agents.is_unserved(node) {
        let message =
            format!("no agent serves the node {node}: the pod is not in the mesh, and is reached in plaintext");
        let finding = Finding::of_object(Kind::Pod, name, "spec.nodeName", message);
        return Err(Box::new(finding));
    }
    Ok(true)
}

/// Whether its connections go direct while its node has no proxy. An unknown value does not allow it; the agent of its node has
/// reported it.
fn falls_back(reader: &Reader<'_>, name: &ObjectName, pod: &Pod) -> bool {
    let namespace = reader.get::<Namespace>(&name.home());
    let annotations = namespace.and_then(|namespace| namespace.metadata.annotations.as_ref());
    let of_namespace = annotations.and_then(|annotations| annotations.get(FALLBACK_ANNOTATION));
    let of_pod = pod.annotations.get(FALLBACK_ANNOTATION);
    matches!(
        Fallback::of(of_namespace.map(|value| &**value), of_pod),
        Ok(Fallback::Direct)
    )
}

/// The node that the pod runs on, once that is decided.
pub fn node_name(pod: &Pod) -> Option<&str> {
    Some(&*pod.node).filter(|name| !name.is_empty())
}

fn locality_of_node(reader: &Reader<'_>, name: &str) -> Option<Locality> {
    let node = reader.get::<Node>(&ObjectName::cluster(name))?;
    let label = |key: &str| node.labels.get(key).unwrap_or_default().to_owned();
    let locality = Locality {
        region: label("topology.kubernetes.io/region"),
        zone: label("topology.kubernetes.io/zone"),
        subzone: label("topology.istio.io/subzone"),
    };
    (locality != Locality::default()).then_some(locality)
}
