//! What is kept of a pod.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use culvert_objects::{
    BadDnsCapture, BadFallback, BadHold, BadSameNode, CLOSE_ANNOTATION, DNS_CAPTURE_ANNOTATION, DnsCapture, Enrolment,
    FALLBACK_ANNOTATION, Fallback, HOLD_ANNOTATION, Hold, ISTIO_DNS_CAPTURE_ANNOTATION, SAME_NODE_ANNOTATION, SameNode,
};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use crate::source::PodName;

/// Where Culvert itself runs: never part of the mesh, since the mesh would have to be up before it starts.
pub(super) const SYSTEM_NAMESPACE: &str = "culvert-system";

/// On the API server's image of a static pod: its uid as the kubelet, the container runtime and cgroups know it.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Keys of the labels that may decide about enrolment.
const LABELS: [&str; 2] = ["culvert.dev/mesh", "istio.io/dataplane-mode"];
/// Keys of the annotations that may, and of those about held connections, about the time without a proxy, about
/// connections within the node and about DNS.
const ANNOTATIONS: [&str; 6] = [
    "sidecar.istio.io/status",
    HOLD_ANNOTATION,
    FALLBACK_ANNOTATION,
    SAME_NODE_ANNOTATION,
    DNS_CAPTURE_ANNOTATION,
    ISTIO_DNS_CAPTURE_ANNOTATION,
];

/// What is kept of a pod: what decides, and what enrolment needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) name: PodName,
    /// As the container runtime knows it, which for a static pod is not the API server's.
    pub(super) uid: Arc<str>,
    /// A static pod, told by its image on the API server.
    pub(super) is_mirror: bool,
    /// The object's resource version, when it is a number.
    pub(super) version: Option<u64>,
    pub(super) service_account: String,
    /// From the status.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) life: Life,
    host_network: bool,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

/// How far a pod is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Starting or running.
    Running,
    /// Asked to end; it may still work for long.
    Terminating,
    /// All its containers have ended for good.
    Ended,
}

/// Whether a pod takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Wanted,
    /// With the problem, if that is a mistake.
    Outside(Option<String>),
}

impl Facts {
    /// Nothing for an object without a name or uid, which no API server hands out.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let metadata = &pod.metadata;
        let mirrored = metadata.annotations.as_ref().and_then(|all| all.get(MIRROR));
        let mirrored = mirrored.filter(|uid| !uid.is_empty());
        Some(Self {
            name: PodName {
                namespace: metadata.namespace.clone()?,
                name: metadata.name.clone()?,
            },
            uid: mirrored.or(metadata.uid.as_ref())?.as_str().into(),
            is_mirror: mirrored.is_some(),
            version: metadata.resource_version.as_ref().and_then(|text| text.parse().ok()),
            service_account: culvert_objects::service_account(pod).to_owned(),
            addresses: culvert_objects::pod_addresses(pod),
            life: life(pod),
            host_network: culvert_objects::is_host_network(pod),
            labels: only(metadata.labels.as_ref(), &LABELS),
            annotations: only(metadata.annotations.as_ref(), &ANNOTATIONS),
        })
    }

    /// Decides, given the labels of the namespace.
    pub(super) fn decide(&self, namespace: &BTreeMap<String, String>) -> Decision {
        let decided = culvert_objects::enrolment(Some(namespace), &self.as_pod(self.host_network));
        // What the labels say by themselves: a pod that cannot follow its own label is a mistake worth a word.
        let is_labelled = || {
            let own = culvert_objects::enrolment(None, &self.as_pod(false));
            own == Ok(Enrolment::Ambient)
        };
        match decided {
            Err(error) if error.on_namespace => {
                Decision::Outside(Some(format!("namespace {}: {error}", self.name.namespace)))
            }
            Err(error) => Decision::Outside(Some(error.to_string())),
            Ok(Enrolment::None) if self.host_network && is_labelled() => Decision::Outside(Some(
                "it is labelled for the mesh, but runs on its node's network (hostNetwork), which is not captured: \
                 remove the label, or hostNetwork"
                    .into(),
            )),
            Ok(Enrolment::None) => Decision::Outside(None),
            Ok(Enrolment::Ambient) if self.name.namespace == SYSTEM_NAMESPACE => Decision::Outside(Some(format!(
                "namespace {SYSTEM_NAMESPACE} runs the mesh and never takes part in it: remove the label"
            ))),
            Ok(Enrolment::Ambient) => Decision::Wanted,
        }
    }

    /// Which connections are held, given what is kept of the namespace.
    pub(super) fn hold(&self, namespace: Option<&BTreeMap<String, String>>) -> Result<Hold, BadHold> {
        let said = |all: Option<&BTreeMap<String, String>>| all.and_then(|all| all.get(HOLD_ANNOTATION)).cloned();
        Hold::of(said(namespace).as_deref(), said(Some(&self.annotations)).as_deref())
    }

    /// What connections do while no proxy serves, given what is kept of the namespace.
    pub(super) fn fallback(&self, namespace: Option<&BTreeMap<String, String>>) -> Result<Fallback, BadFallback> {
        let of_namespace = namespace.and_then(|all| all.get(FALLBACK_ANNOTATION));
        let own = self.annotations.get(FALLBACK_ANNOTATION);
        Fallback::of(of_namespace.map(String::as_str), own.map(String::as_str))
    }

    /// How connections within the node go, given what is kept of the namespace.
    pub(super) fn same_node(&self, namespace: Option<&BTreeMap<String, String>>) -> Result<SameNode, BadSameNode> {
        let of_namespace = namespace.and_then(|all| all.get(SAME_NODE_ANNOTATION));
        let own = self.annotations.get(SAME_NODE_ANNOTATION);
        SameNode::of(of_namespace.map(String::as_str), own.map(String::as_str))
    }

    /// Whether the proxy sees its DNS queries, given what is kept of the namespace.
    pub(super) fn dns(
        &self,
        namespace: Option<&BTreeMap<String, String>>,
    ) -> Result<Option<DnsCapture>, BadDnsCapture> {
        let of_namespace = |annotation: &str| namespace?.get(annotation).map(String::as_str);
        let own = |annotation: &str| self.annotations.get(annotation).map(String::as_str);
        DnsCapture::of(of_namespace, own)
    }

    /// As much of a pod as enrolment is decided by.
    fn as_pod(&self, host_network: bool) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.labels = Some(self.labels.clone());
        pod.metadata.annotations = Some(self.annotations.clone());
        pod.spec.get_or_insert_default().host_network = Some(host_network);
        pod
    }
}

/// What is kept of a namespace: its labels that may decide about enrolment, and its annotations about open and held
/// connections, about the time without a proxy and about DNS. Their keys differ.
pub(super) fn deciding_metadata(metadata: &ObjectMeta) -> BTreeMap<String, String> {
    let mut kept = deciding_labels(metadata.labels.as_ref());
    kept.extend(only(
        metadata.annotations.as_ref(),
        &[
            CLOSE_ANNOTATION,
            HOLD_ANNOTATION,
            FALLBACK_ANNOTATION,
            SAME_NODE_ANNOTATION,
            DNS_CAPTURE_ANNOTATION,
            ISTIO_DNS_CAPTURE_ANNOTATION,
        ],
    ));
    kept
}

/// The labels of an object that may decide about enrolment.
pub(super) fn deciding_labels(labels: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
    only(labels, &LABELS)
}

/// Drops from a pod what is not needed, so that what waits to be read is small.
pub(super) fn strip(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    if let Some(spec) = &mut pod.spec {
        *spec = k8s_openapi::api::core::v1::PodSpec {
            node_name: spec.node_name.take(),
            host_network: spec.host_network,
            service_account_name: spec.service_account_name.take(),
            ..Default::default()
        };
    }
    if let Some(status) = &mut pod.status {
        *status = k8s_openapi::api::core::v1::PodStatus {
            phase: status.phase.take(),
            pod_ip: status.pod_ip.take(),
            pod_ips: status.pod_ips.take(),
            ..Default::default()
        };
    }
}

fn life(pod: &Pod) -> Life {
    match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Succeeded" | "Failed") => Life::Ended,
        _ if pod.metadata.deletion_timestamp.is_some() => Life::Terminating,
        _ => Life::Running,
    }
}

fn only(all: Option<&BTreeMap<String, String>>, keys: &[&str]) -> BTreeMap<String, String> {
    let kept = all
        .into_iter()
        .flatten()
        .filter(|(key, _)| keys.contains(&key.as_str()));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}
