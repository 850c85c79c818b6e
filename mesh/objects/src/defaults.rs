//! What an API server fills in when an object is written, so that the rest of the mesh sees the same objects with and
//! without a cluster.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, PodIP, Service, ServiceAccount, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The namespaces that are there in every cluster.
pub(crate) const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

pub(crate) fn namespace(mut namespace: Namespace) -> Namespace {
    namespace.metadata.namespace = None;
    if let Some(name) = namespace.metadata.name.clone() {
        let labels = namespace.metadata.labels.get_or_insert_default();
        labels.insert("kubernetes.io/metadata.name".to_owned(), name);
    }
    namespace
}

pub(crate) fn implied_namespace(name: &str) -> Namespace {
    namespace(Namespace {
        metadata: metadata(None, name),
        ..Namespace::default()
    })
}

pub(crate) fn implied_service_account(namespace: &str) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(Some(namespace), "default"),
        ..ServiceAccount::default()
    }
}

fn metadata(namespace: Option<&str>, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        ..ObjectMeta::default()
    }
}

pub(crate) fn namespaced(metadata: &mut ObjectMeta) {
    if metadata.namespace.as_deref().is_none_or(str::is_empty) {
        metadata.namespace = Some("default".to_owned());
    }
}

pub(crate) fn service_account(mut account: ServiceAccount) -> ServiceAccount {
    namespaced(&mut account.metadata);
    account
}

pub(crate) fn config_map(mut map: ConfigMap) -> ConfigMap {
    namespaced(&mut map.metadata);
    map
}

pub(crate) fn endpoint_slice(mut slice: EndpointSlice) -> EndpointSlice {
    namespaced(&mut slice.metadata);
    for port in slice.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
    }
    slice
}

pub(crate) fn pod(mut pod: Pod) -> Pod {
    namespaced(&mut pod.metadata);
    if pod.metadata.uid.is_none() {
        let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref());
        pod.metadata.uid = Some(format!(
            "{}/{}",
            namespace.unwrap_or_default(),
            name.unwrap_or_default()
        ));
    }
    let spec = pod.spec.get_or_insert_default();
    if spec.service_account_name.as_deref().is_none_or(str::is_empty) {
        // `serviceAccount` is the old name of the same field.
        let old = spec.service_account.clone().filter(|name| !name.is_empty());
        spec.service_account_name = Some(old.unwrap_or_else(|| "default".to_owned()));
    }
    for container in spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
    {
        for port in container.ports.iter_mut().flatten() {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }
    if let Some(status) = &mut pod.status {
        if let (Some(ip), None) = (&status.pod_ip, &status.pod_ips) {
            status.pod_ips = Some(vec![PodIP { ip: ip.clone() }]);
        }
        if let (None, Some(first)) = (&status.pod_ip, status.pod_ips.iter().flatten().next()) {
            status.pod_ip = Some(first.ip.clone());
        }
    }
    pod
}

pub(crate) fn service(mut service: Service) -> Service {
    namespaced(&mut service.metadata);
    let spec = service.spec.get_or_insert_default();
    let kind = spec.type_.get_or_insert_with(|| "ClusterIP".to_owned()).clone();
    spec.session_affinity.get_or_insert_with(|| "None".to_owned());
    for port in spec.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
        if target_is_unset(port.target_port.as_ref()) {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
    if kind == "ExternalName" {
        return service;
    }
    spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    if let (Some(ip), None) = (spec.cluster_ip.clone().filter(|ip| !ip.is_empty()), &spec.cluster_ips) {
        spec.cluster_ips = Some(vec![ip]);
    }
    if let (None, Some(first)) = (&spec.cluster_ip, spec.cluster_ips.iter().flatten().next()) {
        spec.cluster_ip = Some(first.clone());
    }
    families(spec);
    service
}

fn target_is_unset(target: Option<&IntOrString>) -> bool {
    match target {
        None | Some(IntOrString::Int(0)) => true,
        Some(IntOrString::Int(_)) => false,
        Some(IntOrString::String(name)) => name.is_empty(),
    }
}

/// Families and their policy, as for a cluster of both families with IPv4 first.
fn families(spec: &mut ServiceSpec) {
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let selects = spec.selector.as_ref().is_some_and(|s| !s.is_empty());
    let mut families: Vec<String> = match spec.ip_families.take().filter(|f| !f.is_empty()) {
        Some(families) => families,
        None if headless => Vec::new(),
        None => spec
            .cluster_ips
            .iter()
            .flatten()
            .filter_map(|ip| ip.parse().ok())
            .map(family_name)
            .collect(),
    };
    if spec.ip_family_policy.is_none() {
        let two = families.len() > 1 || (headless && !selects && families.is_empty());
        spec.ip_family_policy = Some(if two { "RequireDualStack" } else { "SingleStack" }.to_owned());
    }
    if families.is_empty() {
        families.push("IPv4".to_owned());
    }
    let single = spec.ip_family_policy.as_deref() == Some("SingleStack");
    if !single && families.len() == 1 {
        families.push(if families[0] == "IPv4" { "IPv6" } else { "IPv4" }.to_owned());
    }
    spec.ip_families = Some(families);
}

pub(crate) fn family_name(address: IpAddr) -> String {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned()
}
