//! What is kept of an object's metadata.
//!
//! Two purposes. Memory: a pod as the API server tells it has tens of kilobytes (environments, volumes, who managed
//! which field), of which the mesh needs one or two. And quiet: an object that changed in what is not kept (a node's
//! heartbeat, a probe's time) is equal to its predecessor, and nothing follows from it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::balancer::BALANCER_ANNOTATION;
use crate::dns_capture::{DNS_CAPTURE_ANNOTATION, ISTIO_DNS_CAPTURE_ANNOTATION};
use crate::enrolment::{CLOSE_ANNOTATION, NETNS_ANNOTATION, SIDECAR_ANNOTATION};
use crate::fallback::FALLBACK_ANNOTATION;
use crate::hold::HOLD_ANNOTATION;
use crate::labels::{Labels, shared};
use crate::name::ObjectName;
use crate::outbound::OUTBOUND_ANNOTATION;
use crate::same_node::SAME_NODE_ANNOTATION;
use crate::traffic::TRAFFIC_DISTRIBUTION;
use crate::waypoint::USE_WAYPOINT_CANARY_WEIGHT;

/// Annotations that are read, on whatever object.
const ANNOTATIONS: [&str; 14] = [
    "ambient.istio.io/redirection",
    SIDECAR_ANNOTATION,
    NETNS_ANNOTATION,
    CLOSE_ANNOTATION,
    HOLD_ANNOTATION,
    FALLBACK_ANNOTATION,
    SAME_NODE_ANNOTATION,
    DNS_CAPTURE_ANNOTATION,
    ISTIO_DNS_CAPTURE_ANNOTATION,
    OUTBOUND_ANNOTATION,
    TRAFFIC_DISTRIBUTION,
    BALANCER_ANNOTATION,
    USE_WAYPOINT_CANARY_WEIGHT[0],
    USE_WAYPOINT_CANARY_WEIGHT[1],
];

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
    // Its presence counts, and its value is a long list.
    if let Some(value) = kept.get_mut(SIDECAR_ANNOTATION) {
        value.clear();
    }
    Some(kept)
}

/// The same, of an object that has a type of its own.
pub(super) fn kept_annotations(all: Option<BTreeMap<String, String>>) -> Labels {
    Labels::of(annotations(all).as_ref())
}

/// What an object is called that lives in a namespace.
pub(super) fn namespaced(metadata: &ObjectMeta) -> ObjectName {
    let namespace = shared(metadata.namespace.as_deref().unwrap_or_default());
    ObjectName::new(namespace, metadata.name.as_deref().unwrap_or_default())
}

/// What an object is called that lives in none.
pub(super) fn cluster(metadata: &ObjectMeta) -> ObjectName {
    ObjectName::cluster(metadata.name.as_deref().unwrap_or_default())
}

/// The value of a label.
pub(super) fn label<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(key).map(String::as_str)
}

pub(super) fn only(all: Option<BTreeMap<String, String>>, keys: &[&str]) -> Option<BTreeMap<String, String>> {
    let mut all = all?;
    all.retain(|key, _| keys.contains(&key.as_str()));
    (!all.is_empty()).then_some(all)
}

/// About how many bytes the metadata takes beside its own structure.
pub(super) fn metadata_bytes(metadata: &ObjectMeta) -> usize {
    let texts = [&metadata.name, &metadata.namespace, &metadata.uid];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    texts + map_bytes(metadata.labels.as_ref()) + map_bytes(metadata.annotations.as_ref())
}

pub(super) fn map_bytes(map: Option<&BTreeMap<String, String>>) -> usize {
    let entry = |(key, value): (&String, &String)| 2 * size_of_val(key) + key.len() + value.len();
    map.into_iter().flatten().map(entry).sum()
}
