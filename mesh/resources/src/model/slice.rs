//! Endpoints written by hand, for Services without a selector. Those of other Services are made by Kubernetes from
//! pods, and tell nothing that the pods do not.
//!
//! An address has one owner. Where that is a pod, the pod's Workload joins the Service, with its identity and its tunnel,
//! whether the endpoint refers to the pod or names its address alone. Every other address becomes a Workload without
//! identity: it may be any host.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use culvert_objects::{
    Endpoint, EndpointSlice, Key, ObjectName, Pod, Service, has_no_selector, referenced_pod, service_of_slice,
};
use culvert_proto::workload::{NetworkMode, PortList, Workload};

use super::health::Health;
use super::reader::Reader;
use super::{owner, ports, wire};

/// A Workload for each address that no pod has.
pub(super) fn workloads(reader: &Reader<'_>, name: &ObjectName, slice: &EndpointSlice) -> Vec<Workload> {
    let Some((service_name, service)) = own_service(reader, name, slice) else {
        return Vec::new();
    };
    let settings = reader.settings();
    let services = HashMap::from([(wire::service_name(settings, &service_name), ports_of(service, slice))]);
    let mut found: BTreeMap<IpAddr, Workload> = BTreeMap::new();
    for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.pod.is_none()) {
        let health = Health::of_endpoint(endpoint);
        let addresses = endpoint.addresses.iter().copied();
        for address in addresses.filter(|address| owner::pod(reader, *address).is_none()) {
            found.entry(address).or_insert_with(|| {
                let mut workload = Workload {
                    uid: format!(
                        "{}/discovery.k8s.io/EndpointSlice/{}/{}/{address}",
                        settings.cluster_id, name.namespace, name.name
                    ),
                    name: name.name.to_string(),
                    namespace: name.namespace.to_string(),
                    addresses: vec![wire::octets(address)],
                    services: services.clone(),
                    cluster_id: settings.cluster_id.clone(),
                    network_mode: NetworkMode::HostNetwork.into(),
                    ..Workload::default()
                };
                health.tell(&mut workload);
                workload
            });
        }
    }
    found.into_values().collect()
}

/// The Services that `pod` belongs to because a slice refers to it or has one of its addresses, and its ports there. A
/// reference with a uid means that one pod, not a later one of the same name. An endpoint by address that is said not to
/// serve is none of the Service's, since a Workload has one health for all its Services.
pub(super) fn services_of_pod(reader: &Reader<'_>, name: &ObjectName, pod: &Pod) -> BTreeMap<String, PortList> {
    // A host's address is everybody's there.
    let own: &[IpAddr] = if pod.is_host_network { &[] } else { &pod.addresses };
    let by_reference = reader.find::<EndpointSlice>(Key::slice_to(name));
    let by_address = own
        .iter()
        .flat_map(|address| reader.find::<EndpointSlice>(Key::endpoint_at(*address)));
    let mut found: BTreeMap<String, PortList> = BTreeMap::new();
    let means = |slice_name: &ObjectName, endpoint: &Endpoint, publish: bool| match &endpoint.pod {
        Some(reference) => {
            referenced_pod(slice_name, endpoint).as_ref() == Some(name)
                && reference.uid.as_ref().is_none_or(|uid| *uid == pod.uid)
        }
        None => {
            let serves = publish || Health::of_endpoint(endpoint) != Health::NotReady;
            serves && endpoint.addresses.iter().any(|address| own.contains(address))
        }
    };
    for (slice_name, slice) in by_reference.chain(by_address) {
        let Some((service_name, service)) = own_service(reader, slice_name, slice) else {
            continue;
        };
        let publish = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
        if !slice
            .endpoints
            .iter()
            .any(|endpoint| means(slice_name, endpoint, publish))
        {
            continue;
        }
        let list = found
            .entry(wire::service_name(reader.settings(), &service_name))
            .or_default();
        for port in ports_of(service, slice).ports {
            if !list.ports.contains(&port) {
                list.ports.push(port);
            }
        }
    }
    found
}

/// The slice's Service, if it is there, has no selector, and the slice holds addresses.
fn own_service<'a>(
    reader: &Reader<'a>,
    name: &ObjectName,
    slice: &EndpointSlice,
) -> Option<(ObjectName, &'a Arc<Service>)> {
    let service_name = service_of_slice(name, slice)?;
    let service = reader
        .get::<Service>(&service_name)
        .filter(|service| has_no_selector(service))?;
    (!slice.is_of_names).then_some((service_name, service))
}

/// The Service's ports that the slice has a number for, matched by name.
fn ports_of(service: &Service, slice: &EndpointSlice) -> PortList {
    let number = |name: &Option<String>| {
        let name = name.as_deref().unwrap_or_default();
        slice.ports.iter().find(|port| *port.name == *name)?.number
    };
    let ports = service.spec.iter().flat_map(ports::tcp_ports);
    let ports = ports.filter_map(|port| Some(ports::workload_port(port, number(&port.name)?.into())));
    PortList { ports: ports.collect() }
}
