//! EndpointSlices without a pod behind them in words, whose addresses are those of pods all the same: written by hand, or
//! mirrored from an Endpoints object.

use crate::cluster::{Cluster, list};
use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{ResourceExt, api::ListParams};
use std::collections::BTreeMap;

/// An address of a pod in an EndpointSlice that does not name the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HandMade {
    pub(crate) namespace: String,
    pub(crate) slice: String,
    /// The Service that it belongs to.
    pub(crate) service: String,
    pub(crate) address: String,
    /// The pod that has the address: namespace and name.
    pub(crate) pod: (String, String),
}

/// All of them; none where EndpointSlices may not be listed.
pub(super) async fn hand_made(cluster: &Cluster, pods: &[Pod]) -> Vec<HandMade> {
    let slices: Vec<EndpointSlice> = list(&cluster.all(), &ListParams::default(), "")
        .await
        .unwrap_or_default();
    found(&slices, pods)
}

fn found(slices: &[EndpointSlice], pods: &[Pod]) -> Vec<HandMade> {
    let owners: BTreeMap<&str, &Pod> = pods
        .iter()
        .filter(|pod| {
            let spec = pod.spec.as_ref();
            spec.is_none_or(|spec| spec.host_network != Some(true)) && pod.metadata.deletion_timestamp.is_none()
        })
        .flat_map(|pod| addresses(pod).map(move |address| (address, pod)))
        .collect();
    let mut all = Vec::new();
    for slice in slices {
        let service = slice.labels().get("kubernetes.io/service-name");
        let unnamed = slice.endpoints.iter().filter(|one| one.target_ref.is_none());
        for address in unnamed.flat_map(|endpoint| &endpoint.addresses) {
            if let Some(pod) = owners.get(address.as_str()) {
                all.push(HandMade {
                    namespace: slice.namespace().unwrap_or_default(),
                    slice: slice.name_any(),
                    service: service.cloned().unwrap_or_default(),
                    address: address.clone(),
                    pod: (pod.namespace().unwrap_or_default(), pod.name_any()),
                });
            }
        }
    }
    all
}

fn addresses(pod: &Pod) -> impl Iterator<Item = &str> {
    let status = pod.status.as_ref();
    let all = status.into_iter().flat_map(|status| status.pod_ips.iter().flatten());
    all.map(|one| one.ip.as_str())
        .chain(status.and_then(|status| status.pod_ip.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::found;
    use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
    use serde_json::{Value, from_value, json};

    fn slice(endpoint: &Value) -> EndpointSlice {
        from_value(json!({
            "metadata": { "namespace": "shop", "name": "db-man-1", "labels": { "kubernetes.io/service-name": "db-man" } },
            "addressType": "IPv4", "endpoints": [endpoint],
        }))
        .unwrap()
    }

    #[test]
    fn an_endpoint_that_names_no_pod_is_found_by_the_pods_address() {
        let pod: Pod = from_value(json!({ "metadata": { "namespace": "shop", "name": "db" },
            "status": { "podIP": "198.19.1.2", "podIPs": [{ "ip": "198.19.1.2" }] } }))
        .unwrap();
        let pods = [pod];
        let by_hand = found(&[slice(&json!({ "addresses": ["198.19.1.2"] }))], &pods);
        assert_eq!(by_hand.len(), 1);
        assert_eq!(
            (by_hand[0].service.as_str(), by_hand[0].pod.1.as_str()),
            ("db-man", "db")
        );
        let named = json!({ "addresses": ["198.19.1.2"], "targetRef": { "kind": "Pod", "name": "db" } });
        assert!(found(&[slice(&named)], &pods).is_empty());
        assert!(found(&[slice(&json!({ "addresses": ["203.0.113.5"] }))], &pods).is_empty());
    }
}
