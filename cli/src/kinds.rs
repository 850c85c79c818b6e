//! The kinds of objects that the manifests may have, and their place in the order of application.

use crate::cluster::{Cluster, names};
use kube::{
    Api,
    api::DynamicObject,
    core::{ApiResource, GroupVersionKind},
};
use serde_json::Value;

/// Kinds that the manifests may have, in the order in which they are applied. Removing goes the other way.
pub(crate) const KINDS: [(&str, &str, &str); 16] = [
    ("", "v1", "Namespace"),
    ("", "v1", "ResourceQuota"),
    ("scheduling.k8s.io", "v1", "PriorityClass"),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
    ("", "v1", "ServiceAccount"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole"),
    ("rbac.authorization.k8s.io", "v1", "Role"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
    ("", "v1", "Secret"),
    ("", "v1", "ConfigMap"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("", "v1", "Service"),
    ("policy", "v1", "PodDisruptionBudget"),
    DEPLOYMENT,
    DAEMON_SET,
];

/// What the Prometheus Operator takes, where it is there and somebody asks for it.
pub(crate) const PROMETHEUS_OPERATOR: [(&str, &str, &str); 2] = [
    ("monitoring.coreos.com", "v1", "PodMonitor"),
    ("monitoring.coreos.com", "v1", "PrometheusRule"),
];

/// The controllers'.
pub(crate) const DEPLOYMENT: (&str, &str, &str) = ("apps", "v1", "Deployment");
/// The nodes'.
pub(crate) const DAEMON_SET: (&str, &str, &str) = ("apps", "v1", "DaemonSet");

/// Of these kinds, those that belong to no namespace.
const CLUSTER_WIDE: [&str; 5] = [
    "Namespace",
    "PriorityClass",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
];

/// An object's place in the order.
pub(crate) fn rank(object: &Value) -> usize {
    let kind = object["kind"].as_str().unwrap_or_default();
    let known = KINDS.iter().position(|(_, _, one)| *one == kind);
    // What nobody foresaw comes before what may use it: the workloads, and after all that they may need.
    known.map_or(KINDS.len() * 2 - 5, |place| place * 2)
}

/// Kinds in the order in which their objects are removed, without the namespace, which goes last: first what nobody needs, then workloads, then
/// what they need.
pub(crate) fn in_order_of_removal() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let others = KINDS.into_iter().rev().filter(|(_, _, kind)| *kind != "Namespace");
    PROMETHEUS_OPERATOR.into_iter().chain(others)
}

/// Objects of one kind; in our namespace, if the kind has namespaces.
pub(crate) fn api(cluster: &Cluster, (group, version, kind): (&str, &str, &str)) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    if CLUSTER_WIDE.contains(&kind) {
        return Api::all_with(cluster.client.clone(), &resource);
    }
    Api::namespaced_with(cluster.client.clone(), names::NAMESPACE, &resource)
}

#[cfg(test)]
mod tests {
    use super::rank;
    use serde_json::json;

    #[test]
    fn a_kind_that_nobody_foresaw_comes_before_the_workloads() {
        let of = |kind: &str| rank(&json!({ "kind": kind }));
        assert!(of("Service") < of("Mystery") && of("Mystery") < of("Deployment"));
        assert!(of("Mystery") > of("PodDisruptionBudget"));
    }
}
