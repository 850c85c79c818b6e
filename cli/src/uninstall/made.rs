//! What the controller made while it ran, all over the cluster: trust bundles, waypoints, the classes of their Gateways. It is known by
//! its label. The Gateways themselves are whoever's wrote them.

use super::one::delete;
use crate::cluster::{Cluster, Failure, names};
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};

/// Group, version, kind, plural.
const KINDS: [(&str, &str, &str, &str); 7] = [
    (
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
    ),
    ("apps", "v1", "Deployment", "deployments"),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    ("", "v1", "Service", "services"),
    ("", "v1", "ServiceAccount", "serviceaccounts"),
    ("", "v1", "ConfigMap", "configmaps"),
    ("gateway.networking.k8s.io", "v1", "GatewayClass", "gatewayclasses"),
];

/// An object that was made.
#[derive(Debug)]
pub(super) struct Made {
    resource: ApiResource,
    namespace: Option<String>,
    name: String,
}

/// Everything that is there.
pub(super) async fn all(cluster: &Cluster) -> Result<Vec<Made>, Failure> {
    let managed = ListParams::default().labels(names::MANAGED_BY);
    let mut found = Vec::new();
    for (group, version, kind, plural) in KINDS {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
        let listed = match api.list_metadata(&managed).await {
            Ok(listed) => listed,
            // A cluster need not have the Gateway API.
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            Err(error) => return Err(Failure::of(format!("listing each {kind} that was made"), error)),
        };
        found.extend(listed.items.iter().map(|one| Made {
            resource: resource.clone(),
            namespace: one.namespace(),
            name: one.name_any(),
        }));
    }
    Ok(found)
}

impl Made {
    /// Removes it; nothing when it was gone already.
    pub(super) async fn remove(&self, cluster: &Cluster) -> Result<Option<String>, Failure> {
        let client = cluster.client.clone();
        let api: Api<DynamicObject> = match &self.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &self.resource),
            None => Api::all_with(client, &self.resource),
        };
        let removed = delete(&api, &self.resource.kind, &self.name).await?;
        Ok(removed.map(|text| match &self.namespace {
            Some(namespace) => format!("{text} in {namespace}"),
            None => text,
        }))
    }
}
