//! A pod becomes a Workload, in the mesh or not: its node's proxy, and those that talk to it, need to know both.

use std::collections::BTreeMap;
use std::net::IpAddr;

use culvert_objects::{
    Enrolment, Node, ObjectName, Objects, Pod, enrolment, is_host_network, pod_addresses, service_account,
};
use culvert_proto::workload::{Locality, NetworkMode, TunnelProtocol, Workload, WorkloadStatus, WorkloadType};

use super::{Settings, names, service, slice};

/// Set by Istio's node agent on pods that it has enrolled.
const REDIRECTION: &str = "ambient.istio.io/redirection";
/// Set on pods that serve HBONE themselves.
const TUNNEL: &str = "networking.istio.io/tunnel";

/// The Workload of `pod`, unless it has no address yet or has ended.
pub fn workload(
    settings: &Settings,
    objects: &Objects,
    links: &slice::Links,
    name: &ObjectName,
    pod: &Pod,
) -> Option<Workload> {
    let addresses = pod_addresses(pod);
    if addresses.is_empty() || has_ended(pod) {
        return None;
    }
    let node = node_name(pod).unwrap_or_default();
    let workload_name = names::workload_name(pod);
    let mut services = service::of_pod(settings, objects, name, pod);
    for (service, ports) in links.of_pod(settings, objects, name, pod) {
        services.entry(service).or_insert(ports);
    }
    let tunnel = name.namespace != settings.system_namespace && tunnel(objects, name, pod);
    Some(Workload {
        uid: uid(settings, name),
        name: name.name.clone(),
        namespace: name.namespace.clone(),
        addresses: addresses.into_iter().map(octets).collect(),
        tunnel_protocol: if tunnel {
            TunnelProtocol::Hbone
        } else {
            TunnelProtocol::None
        }
        .into(),
        trust_domain: if settings.trust_domain == "cluster.local" {
            String::new()
        } else {
            settings.trust_domain.clone()
        },
        service_account: service_account(pod).to_owned(),
        node: node.to_owned(),
        canonical_name: names::canonical_name(pod, &workload_name),
        canonical_revision: names::canonical_revision(pod),
        workload_type: WorkloadType::Pod.into(),
        workload_name,
        native_tunnel: tunnel && is_native(pod),
        services: services.into_iter().collect(),
        status: if is_healthy(pod) {
            WorkloadStatus::Healthy
        } else {
            WorkloadStatus::Unhealthy
        }
        .into(),
        cluster_id: settings.cluster_id.clone(),
        locality: objects
            .nodes
            .get(&ObjectName::cluster(node))
            .and_then(|node| locality(node)),
        network_mode: if is_host_network(pod) {
            NetworkMode::HostNetwork
        } else {
            NetworkMode::Standard
        }
        .into(),
        ..Workload::default()
    })
}

/// The resource name of a pod's Workload.
pub fn uid(settings: &Settings, name: &ObjectName) -> String {
    format!("{}//Pod/{}/{}", settings.cluster_id, name.namespace, name.name)
}

/// Whether others reach the pod through the tunnel, and it gets a certificate. By label; or because Istio's agent says
/// that it has enrolled the pod; or because the pod serves the tunnel itself.
pub fn tunnel(objects: &Objects, name: &ObjectName, pod: &Pod) -> bool {
    if is_host_network(pod) {
        return false;
    }
    let namespace = objects.namespace(&name.namespace);
    let labels = namespace.and_then(|namespace| namespace.metadata.labels.as_ref());
    let annotations = pod.metadata.annotations.as_ref();
    // An unknown value does not enrol; the source of the objects has reported it.
    matches!(enrolment(labels, pod), Ok(Enrolment::Ambient))
        || annotations
            .and_then(|a| a.get(REDIRECTION))
            .is_some_and(|v| v == "enabled")
        || is_native(pod)
}

/// The node that the pod runs on, once that is decided.
pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// Whether all its containers have ended for good.
pub fn has_ended(pod: &Pod) -> bool {
    matches!(
        pod.status.as_ref().and_then(|s| s.phase.as_deref()),
        Some("Succeeded" | "Failed")
    )
}

/// An address as the wire has it: four or sixteen bytes.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn is_native(pod: &Pod) -> bool {
    pod.metadata
        .labels
        .as_ref()
        .and_then(|l| l.get(TUNNEL))
        .is_some_and(|v| v == "http")
}

/// Ready, and not about to go. The phase tells nothing about that.
fn is_healthy(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let ready = conditions.filter(|c| c.type_ == "Ready").any(|c| c.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

fn locality(node: &Node) -> Option<Locality> {
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
    let locality = Locality {
        region: label("topology.kubernetes.io/region"),
        zone: label("topology.kubernetes.io/zone"),
        subzone: label("topology.istio.io/subzone"),
    };
    (locality != Locality::default()).then_some(locality)
}
