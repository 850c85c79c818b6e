//! Between which nodes is measured.

use crate::{
    cluster::{Cluster, Failure, list},
    survey::placed,
};
use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{ResourceExt, api::ListParams};
use std::collections::BTreeSet;

/// A node, and our pod on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) node: String,
    pub(super) proxy: String,
}

/// The client's node and the server's.
pub(super) async fn choose(cluster: &Cluster, client: Option<&str>, server: Option<&str>) -> Result<[Place; 2]> {
    let (nodes_of, pods_of) = (cluster.all(), cluster.ours());
    let ours = ListParams::default().labels("app.kubernetes.io/name=culvert-node");
    let nodes: Vec<Node> = list(&nodes_of, &ListParams::default(), "listing nodes").await?;
    let pods: Vec<Pod> = list(&pods_of, &ours, "listing our pods").await?;
    if pods.is_empty() && cluster.deployment_is_missing().await? {
        return Err(Failure::NotInstalled.into());
    }
    chosen(&nodes, &pods, client, server)
}

fn chosen(nodes: &[Node], pods: &[Pod], client: Option<&str>, server: Option<&str>) -> Result<[Place; 2]> {
    let shut: BTreeSet<String> = nodes
        .iter()
        .filter(|node| takes_no_pods(node))
        .map(ResourceExt::name_any)
        .collect();
    let known = placed(nodes, pods);
    let usable: Vec<Place> = known
        .iter()
        .filter(|facts| facts.is_ready && facts.is_ours)
        .filter_map(|facts| {
            Some(Place {
                node: facts.name.clone(),
                proxy: facts.pod.as_ref()?.name_any(),
            })
        })
        .collect();
    let named = |name: &str| -> Result<Place> {
        match usable.iter().find(|place| place.node == name) {
            Some(place) => Ok(place.clone()),
            None if known.iter().any(|facts| facts.name == name) => {
                bail!("node {name} is not ready, or has no pod of culvert-node: `culvert status` says why")
            }
            None => bail!("the cluster has no node {name}"),
        }
    };
    // A node that is named may be one that takes no pods by itself.
    let mut open = usable.iter().filter(|place| !shut.contains(&place.node));
    let client = match client {
        Some(name) => named(name)?,
        None => match open.find(|place| Some(place.node.as_str()) != server) {
            Some(place) => place.clone(),
            None => match server {
                Some(name) => named(name)?,
                None => bail!("no node is ready, takes pods and has a pod of culvert-node: `culvert status` says why"),
            },
        },
    };
    let server = match server {
        Some(name) => named(name)?,
        None => {
            let mut others = usable.iter().filter(|place| !shut.contains(&place.node));
            others.find(|place| **place != client).unwrap_or(&client).clone()
        }
    };
    Ok([client, server])
}

fn takes_no_pods(node: &Node) -> bool {
    let Some(spec) = &node.spec else { return false };
    let mut taints = spec.taints.iter().flatten();
    spec.unschedulable == Some(true) || taints.any(|taint| taint.effect != "PreferNoSchedule")
}

#[cfg(test)]
mod tests {
    use super::chosen;
    use k8s_openapi::api::core::v1::{Node, Pod};
    use serde_json::{from_value, json};

    fn node(name: &str, taint: Option<&str>) -> Node {
        let taints: Vec<_> = taint
            .iter()
            .map(|effect| json!({ "key": "a", "effect": effect }))
            .collect();
        from_value(json!({ "metadata": { "name": name }, "spec": { "taints": taints },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] } }))
        .unwrap()
    }

    fn pod(node: &str) -> Pod {
        from_value(json!({ "metadata": { "name": format!("culvert-node-{node}") },
            "spec": { "nodeName": node, "containers": [] },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] } }))
        .unwrap()
    }

    #[test]
    fn two_nodes_that_take_pods_are_chosen_and_one_alone_does_both() {
        let nodes = [
            node("control", Some("NoSchedule")),
            node("a", None),
            node("b", None),
            node("bare", None),
        ];
        let pods = [pod("control"), pod("a"), pod("b")];
        let found = |nodes: &[Node], client: Option<&str>, server: Option<&str>| {
            chosen(nodes, &pods, client, server)
                .map(|places| places.map(|place| place.node))
                .map_err(|error| error.to_string())
        };
        let both = |a: &str, b: &str| Ok([a.to_owned(), b.to_owned()]);
        assert_eq!(found(&nodes, None, None), both("a", "b"));
        assert_eq!(found(&nodes, None, Some("a")), both("b", "a"));
        assert_eq!(found(&nodes, Some("control"), None), both("control", "a"));
        assert_eq!(found(&nodes[1..2], None, None), both("a", "a"));
        assert_eq!(found(&nodes[1..2], None, Some("a")), both("a", "a"));
        assert!(
            found(&nodes, Some("bare"), None)
                .unwrap_err()
                .contains("no pod of culvert-node")
        );
        assert!(found(&nodes, None, Some("none")).unwrap_err().contains("no node none"));
        assert!(found(&nodes[..1], None, None).is_err());
    }
}
