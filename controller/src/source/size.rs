//! About how many bytes the objects take that are held.

use std::collections::BTreeMap;
use std::mem::size_of_val;
use std::sync::Arc;

use culvert_objects::{EndpointSlice, Node, ObjectName, Objects, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::store::Kind;

pub(super) fn of(objects: &Objects, kind: Kind) -> usize {
    match kind {
        Kind::Namespace => sum(&objects.namespaces, |o| metadata(&o.metadata)),
        Kind::Node => sum(&objects.nodes, |o: &Node| metadata(&o.metadata)),
        Kind::ServiceAccount => sum(&objects.service_accounts, |o| metadata(&o.metadata)),
        Kind::Service => sum(&objects.services, service),
        Kind::EndpointSlice => sum(&objects.endpoint_slices, slice),
        Kind::Pod => sum(&objects.pods, pod),
    }
}

fn sum<T>(all: &BTreeMap<ObjectName, Arc<T>>, heap: impl Fn(&T) -> usize) -> usize {
    let one = |(name, object): (&ObjectName, &Arc<T>)| {
        size_of_val(name) + name.namespace.len() + name.name.len() + size_of_val(&**object) + heap(object)
    };
    all.iter().map(one).sum()
}

fn metadata(metadata: &ObjectMeta) -> usize {
    let texts = [
        &metadata.name,
        &metadata.namespace,
        &metadata.uid,
        &metadata.generate_name,
    ];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    let owners = metadata.owner_references.iter().flatten();
    let owners: usize = owners.map(|o| size_of_val(o) + o.kind.len() + o.name.len()).sum();
    texts + owners + map(metadata.labels.as_ref()) + map(metadata.annotations.as_ref())
}

fn map(map: Option<&BTreeMap<String, String>>) -> usize {
    let entry = |(key, value): (&String, &String)| 2 * size_of_val(key) + key.len() + value.len();
    map.into_iter().flatten().map(entry).sum()
}

fn pod(pod: &Pod) -> usize {
    let containers = pod
        .spec
        .iter()
        .flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
    let containers: usize = containers
        .map(|c| size_of_val(c) + c.ports.iter().flatten().map(size_of_val).sum::<usize>())
        .sum();
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    metadata(&pod.metadata) + containers + conditions.map(size_of_val).sum::<usize>()
}

fn service(service: &Service) -> usize {
    let spec = service.spec.as_ref();
    let ports = spec
        .iter()
        .flat_map(|s| s.ports.iter().flatten())
        .map(size_of_val)
        .sum::<usize>();
    metadata(&service.metadata) + ports + map(spec.and_then(|s| s.selector.as_ref()))
}

fn slice(slice: &EndpointSlice) -> usize {
    let endpoint = |e: &k8s_openapi::api::discovery::v1::Endpoint| {
        size_of_val(e) + e.addresses.iter().map(|a| size_of_val(a) + a.len()).sum::<usize>()
    };
    metadata(&slice.metadata) + slice.endpoints.iter().map(endpoint).sum::<usize>()
}
