//! What is kept of an object's metadata.
//!
//! Two purposes. Memory: a pod as the API server tells it has tens of kilobytes (environments, volumes, who managed
//! which field), of which the mesh needs one or two. And quiet: an object that changed in what is not kept (a node's
//! heartbeat, a probe's time) is equal to its predecessor, and nothing follows from it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::enrolment::CLOSE_ANNOTATION;

/// Annotations that are read, on whatever object.
const ANNOTATIONS: [&str; 4] = [
    "ambient.istio.io/redirection",
    CLOSE_ANNOTATION,
    PRESENCE,
    "networking.istio.io/traffic-distribution",
];
/// One whose presence counts, and whose value is a long list.
const PRESENCE: &str = "sidecar.istio.io/status";

/// Whose object it is, and from when to when.
pub(super) fn identity(metadata: &mut ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        namespace: metadata.namespace.take(),
        name: metadata.name.take(),
        uid: metadata.uid.take(),
        creation_timestamp: metadata.creation_timestamp.take(),
        deletion_timestamp: metadata.deletion_timestamp.take(),
        ..ObjectMeta::default()
    }
}

/// Namespace and name, and no more.
pub(super) fn name(metadata: &mut ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        namespace: metadata.namespace.take(),
        name: metadata.name.take(),
        ..ObjectMeta::default()
    }
}

pub(super) fn annotations(all: Option<BTreeMap<String, String>>) -> Option<BTreeMap<String, String>> {
    let mut kept = only(all, &ANNOTATIONS)?;
    if let Some(value) = kept.get_mut(PRESENCE) {
        *value = String::new();
    }
    Some(kept)
}

pub(super) fn only(all: Option<BTreeMap<String, String>>, keys: &[&str]) -> Option<BTreeMap<String, String>> {
    let mut all = all?;
    all.retain(|key, _| keys.contains(&key.as_str()));
    (!all.is_empty()).then_some(all)
}

/// About how many bytes the metadata takes beside its own structure.
pub(super) fn metadata_bytes(metadata: &ObjectMeta) -> usize {
    let texts = [
        &metadata.name,
        &metadata.namespace,
        &metadata.uid,
        &metadata.generate_name,
    ];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    let owner = |owner: &OwnerReference| size_of_val(owner) + owner.kind.len() + owner.name.len();
    let owners: usize = metadata.owner_references.iter().flatten().map(owner).sum();
    texts + owners + map_bytes(metadata.labels.as_ref()) + map_bytes(metadata.annotations.as_ref())
}

pub(super) fn map_bytes(map: Option<&BTreeMap<String, String>>) -> usize {
    let entry = |(key, value): (&String, &String)| 2 * size_of_val(key) + key.len() + value.len();
    map.into_iter().flatten().map(entry).sum()
}
