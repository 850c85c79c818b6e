//! The addresses that are an object's own.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, Service};

use crate::enrolment;

/// Pods on the host's network share addresses; pods that have ended have given theirs back.
pub(crate) fn claimed_by_pod(pod: &Pod) -> Vec<IpAddr> {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    if enrolment::is_host_network(pod) || matches!(phase, Some("Succeeded" | "Failed")) {
        return Vec::new();
    }
    enrolment::pod_addresses(pod)
}

pub(crate) fn service_addresses(service: &Service) -> Vec<IpAddr> {
    let texts = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
    texts.filter_map(|text| text.parse().ok()).collect()
}
