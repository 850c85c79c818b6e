//! Letting pods onto a node when its agent is ready: the option to hold them back until then.
//!
//! A node that registers with a taint (`--register-with-taints` of the kubelet, or the node pool's setting) takes no pod that
//! does not tolerate it. The agent takes the taint off once new pods wait for the mesh. It never puts it on: a node whose agent
//! ends later keeps its pods, and the CNI plug-in holds new ones back.

use std::{future::Future, time::Duration};

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

/// How long after a failure to try again.
const RETRY: Duration = Duration::from_secs(1);

/// Takes every taint with this key off the node when `ready` is over, and tries until that has worked.
pub async fn lift(client: Client, node: &str, key: &str, ready: impl Future<Output = ()>) {
    ready.await;
    let nodes: Api<Node> = Api::all(client);
    loop {
        match try_lift(&nodes, node, key).await {
            Ok(true) => return tracing::info!(node, taint = key, "the agent is ready: took the taint off the node"),
            Ok(false) => return tracing::debug!(node, taint = key, "the node has no such taint"),
            Err(error) => tracing::warn!(node, taint = key, %error, "cannot take the taint off the node; trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// False when it was not there.
async fn try_lift(nodes: &Api<Node>, name: &str, key: &str) -> Result<bool, kube::Error> {
    let node = nodes.get(name).await?;
    let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
    let kept: Vec<_> = taints.iter().filter(|taint| taint.key != key).collect();
    if kept.len() == taints.len() {
        return Ok(false);
    }
    // With the version that was read: a taint that somebody puts on meanwhile is not lost.
    let patch = json!({
        "metadata": { "resourceVersion": node.metadata.resource_version },
        "spec": { "taints": kept },
    });
    nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(true)
}
