//! Endpoints written by hand, for Services without a selector. Those of other Services are made by Kubernetes from
//! pods, and tell nothing that the pods do not.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use culvert_objects::{EndpointSlice, ObjectName, Objects, Pod, Service};
use culvert_proto::workload::{NetworkMode, PortList, Workload, WorkloadStatus};
use k8s_openapi::api::core::v1::ObjectReference;

use super::{Settings, pod, service};

/// The name of the Service that a slice belongs to, in the slice's namespace.
pub fn service_name(slice: &EndpointSlice) -> Option<&String> {
    slice.metadata.labels.as_ref()?.get("kubernetes.io/service-name")
}

/// The pods that a slice refers to.
pub fn pods(name: &ObjectName, slice: &EndpointSlice) -> impl Iterator<Item = ObjectName> {
    let references = slice
        .endpoints
        .iter()
        .filter_map(|endpoint| endpoint.target_ref.as_ref());
    references.filter_map(|reference| pod_name(name, reference))
}

/// A Workload for each address that no pod stands behind. It may be any host, shared by others: it has no identity.
pub fn workloads(settings: &Settings, objects: &Objects, name: &ObjectName, slice: &EndpointSlice) -> Vec<Workload> {
    let Some((service_name, service)) = own_service(objects, name, slice) else {
        return Vec::new();
    };
    let services = HashMap::from([(service::resource_name(settings, &service_name), ports(service, slice))]);
    let mut found: BTreeMap<IpAddr, Workload> = BTreeMap::new();
    for endpoint in slice
        .endpoints
        .iter()
        .filter(|e| e.target_ref.as_ref().is_none_or(|r| r.kind.as_deref() != Some("Pod")))
    {
        let ready = endpoint.conditions.as_ref().and_then(|c| c.ready) != Some(false);
        for address in endpoint.addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok()) {
            found.entry(address).or_insert_with(|| Workload {
                uid: format!(
                    "{}/discovery.k8s.io/EndpointSlice/{}/{}/{address}",
                    settings.cluster_id, name.namespace, name.name
                ),
                name: name.name.clone(),
                namespace: name.namespace.clone(),
                addresses: vec![pod::octets(address)],
                services: services.clone(),
                status: if ready {
                    WorkloadStatus::Healthy
                } else {
                    WorkloadStatus::Unhealthy
                }
                .into(),
                cluster_id: settings.cluster_id.clone(),
                network_mode: NetworkMode::HostNetwork.into(),
                ..Workload::default()
            });
        }
    }
    found.into_values().collect()
}

/// Which pods are endpoints of Services without selector, because a slice refers to them.
#[derive(Debug, Default)]
pub struct Links {
    by_pod: HashMap<ObjectName, Vec<(ObjectName, Option<String>)>>,
}

impl Links {
    /// Collects the references of all slices.
    pub fn new(objects: &Objects) -> Self {
        let mut by_pod: HashMap<_, Vec<_>> = HashMap::new();
        for (name, slice) in &objects.endpoint_slices {
            if own_service(objects, name, slice).is_none() {
                continue;
            }
            for reference in slice
                .endpoints
                .iter()
                .filter_map(|endpoint| endpoint.target_ref.as_ref())
            {
                if let Some(pod) = pod_name(name, reference) {
                    by_pod
                        .entry(pod)
                        .or_default()
                        .push((name.clone(), reference.uid.clone()));
                }
            }
        }
        Self { by_pod }
    }

    /// The Services that `pod` belongs to by reference, and its ports there. A reference with a uid means that one pod,
    /// not a later one of the same name.
    pub fn of_pod(
        &self,
        settings: &Settings,
        objects: &Objects,
        name: &ObjectName,
        pod: &Pod,
    ) -> BTreeMap<String, PortList> {
        let mut found = BTreeMap::new();
        for (slice_name, uid) in self.by_pod.get(name).into_iter().flatten() {
            if uid.as_ref().is_some_and(|uid| Some(uid) != pod.metadata.uid.as_ref()) {
                continue;
            }
            let Some(slice) = objects.endpoint_slices.get(slice_name) else {
                continue;
            };
            if let Some((service_name, service)) = own_service(objects, slice_name, slice) {
                let resource = service::resource_name(settings, &service_name);
                let list: &mut PortList = found.entry(resource).or_default();
                for port in ports(service, slice).ports {
                    if !list.ports.contains(&port) {
                        list.ports.push(port);
                    }
                }
            }
        }
        found
    }
}

/// The slice's Service, if it is there, has no selector, and the slice holds addresses.
fn own_service<'a>(
    objects: &'a Objects,
    name: &ObjectName,
    slice: &EndpointSlice,
) -> Option<(ObjectName, &'a Arc<Service>)> {
    let service_name = ObjectName::new(name.namespace.as_str(), service_name(slice)?.as_str());
    let service = objects
        .services
        .get(&service_name)
        .filter(|s| service::has_no_selector(s))?;
    (slice.address_type != "FQDN").then_some((service_name, service))
}

fn pod_name(slice: &ObjectName, reference: &ObjectReference) -> Option<ObjectName> {
    let namespace = reference.namespace.as_deref().unwrap_or(&slice.namespace);
    // A slice cannot reach into another namespace.
    (reference.kind.as_deref() == Some("Pod") && namespace == slice.namespace)
        .then(|| ObjectName::new(namespace, reference.name.clone().unwrap_or_default()))
}

/// The Service's ports that the slice has a number for, matched by name.
fn ports(service: &Service, slice: &EndpointSlice) -> PortList {
    let number = |name: &Option<String>| {
        let name = name.as_deref().unwrap_or_default();
        let mut ports = slice
            .ports
            .iter()
            .flatten()
            .filter(|p| p.protocol.as_deref().is_none_or(|p| p == "TCP"));
        ports
            .find(|p| p.name.as_deref().unwrap_or_default() == name)
            .and_then(|p| p.port)
    };
    let ports = service.spec.iter().flat_map(service::tcp_ports);
    let ports = ports.filter_map(|port| Some(service::workload_port(port, service::number(number(&port.name)?))));
    PortList { ports: ports.collect() }
}
