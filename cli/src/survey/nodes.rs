//! The nodes: which pod of ours serves each, and what its agent and its proxy report.

use crate::{
    cluster::{Cluster, Page, Unanswered, names::ports},
    pod::{is_ready, stuck},
};
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod};
use kube::ResourceExt;
use serde_json::Value;
use std::collections::BTreeMap;

/// A node, the pod of ours on it, and what that says.
#[derive(Debug, Default)]
pub(crate) struct NodeFacts {
    pub(crate) name: String,
    pub(crate) is_ready: bool,
    /// Whether its kind of system can have our pod at all: it runs Linux.
    pub(crate) is_ours: bool,
    /// Its processor's, as Kubernetes writes it, such as `amd64`.
    pub(crate) architecture: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) pod: Option<Pod>,
    /// Others of ours there that may serve it in truth: while a version replaces another, one stands by.
    pub(crate) others: Vec<Pod>,
    /// Pods of ours that are on their way out, and carry their last connections.
    pub(crate) draining: Vec<Pod>,
    pub(crate) report: Option<NodeReport>,
}

/// What agent and proxy of a node say.
#[derive(Debug)]
pub(crate) struct NodeReport {
    /// The agent's `/pods`.
    pub(crate) agent: Result<Value, Unanswered>,
    /// The agent's `/metrics`.
    pub(crate) agent_metrics: Result<Page, Unanswered>,
    /// The proxy's readiness, with what is missing.
    pub(crate) proxy_ready: Result<Page, Unanswered>,
    /// The proxy's `/metrics`.
    pub(crate) proxy_metrics: Result<Page, Unanswered>,
    /// The proxy's `/status`, which older ones and Istio's do not have.
    pub(crate) proxy: Result<Value, Unanswered>,
    /// The proxy's `/certificates`.
    pub(crate) certificates: Result<Value, Unanswered>,
    /// The proxy's `/workloads`; asked for only when something makes it worth knowing.
    pub(crate) workloads: Option<Value>,
}

impl NodeReport {
    /// Nothing answers, for one reason.
    pub(crate) fn unanswered(reason: &Unanswered) -> Self {
        Self {
            agent: Err(reason.clone()),
            agent_metrics: Err(reason.clone()),
            proxy_ready: Err(reason.clone()),
            proxy_metrics: Err(reason.clone()),
            proxy: Err(reason.clone()),
            certificates: Err(reason.clone()),
            workloads: None,
        }
    }
}

/// Puts our pods to their nodes: the one that serves, if there are several, and how many only drain.
pub(crate) fn placed(nodes: &[Node], ours: &[Pod]) -> Vec<NodeFacts> {
    let facts = |node: &Node| {
        let name = node.name_any();
        let here = ours
            .iter()
            .filter(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(&name));
        let (leaving, staying): (Vec<&Pod>, Vec<&Pod>) =
            here.partition(|pod| pod.metadata.deletion_timestamp.is_some());
        let mut candidates: Vec<Pod> = staying.into_iter().cloned().collect();
        candidates.sort_by_key(|pod| std::cmp::Reverse(is_ready(pod)));
        let mut candidates = candidates.into_iter();
        let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
        NodeFacts {
            is_ready: has_condition(node.status.iter().flat_map(|s| s.conditions.iter().flatten()), "Ready"),
            is_ours: info.is_none_or(|info| info.operating_system != "windows"),
            architecture: info.map(|info| info.architecture.clone()).unwrap_or_default(),
            labels: node.labels().clone(),
            pod: candidates.next(),
            others: candidates.collect(),
            draining: leaving.into_iter().cloned().collect(),
            report: None,
            name,
        }
    };
    nodes.iter().map(facts).collect()
}

fn has_condition<'a>(mut conditions: impl Iterator<Item = &'a NodeCondition>, name: &str) -> bool {
    conditions.any(|one| one.type_ == name && one.status == "True")
}

/// Why a pod cannot be asked: it has no address yet.
pub(super) fn not_running(pod: &Pod) -> Option<Unanswered> {
    let has_address = pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some());
    (!has_address).then(|| {
        let reason = stuck(pod, &[]).unwrap_or_else(|| "it is being started".to_owned());
        Unanswered(format!("does not run yet: {reason}"))
    })
}

/// Asks the pod of a node; the next one, if that one only stands by.
pub(super) async fn asked(cluster: &Cluster, mut node: NodeFacts) -> NodeFacts {
    let Some(pod) = &node.pod else { return node };
    node.report = Some(report(cluster, pod).await);
    for other in std::mem::take(&mut node.others) {
        let stands_by = |report: &NodeReport| report.agent.as_ref().is_ok_and(|page| !page["standby"].is_null());
        if !node.report.as_ref().is_some_and(stands_by) {
            break;
        }
        node.report = Some(report(cluster, &other).await);
        node.pod = Some(other);
    }
    node
}

async fn report(cluster: &Cluster, pod: &Pod) -> NodeReport {
    if let Some(reason) = not_running(pod) {
        return NodeReport::unanswered(&reason);
    }
    let pod = &pod.name_any();
    let (agent, agent_metrics, proxy_ready, proxy_metrics, proxy, certificates) = futures_util::join!(
        cluster.admin_page(pod, ports::AGENT, "/pods"),
        cluster.page(pod, ports::AGENT, "/metrics"),
        cluster.page(pod, ports::PROXY_READY, "/healthz/ready"),
        cluster.page(pod, ports::PROXY_METRICS, "/metrics"),
        cluster.admin_page(pod, ports::PROXY_ADMIN, "/status"),
        cluster.admin_page(pod, ports::PROXY_ADMIN, "/certificates"),
    );
    NodeReport {
        agent: agent.and_then(|page| page.json()),
        agent_metrics,
        proxy_ready,
        proxy_metrics,
        proxy: proxy.and_then(|page| page.json()),
        certificates: certificates.and_then(|page| page.json()),
        workloads: None,
    }
}

/// The same node, with what its proxy knows of workloads.
pub(super) async fn with_workloads(cluster: &Cluster, mut node: NodeFacts) -> NodeFacts {
    if let (Some(pod), Some(report)) = (&node.pod, &mut node.report)
        && not_running(pod).is_none()
    {
        let page = cluster
            .admin_page(&pod.name_any(), ports::PROXY_ADMIN, "/workloads")
            .await;
        report.workloads = page.and_then(|page| page.json()).ok();
    }
    node
}

#[cfg(test)]
mod tests {
    use super::placed;
    use serde_json::{from_value, json};

    #[test]
    fn the_pod_that_serves_is_told_from_those_that_drain() {
        let node = from_value(json!({ "metadata": { "name": "n" }, "status": {
            "conditions": [{ "type": "Ready", "status": "True" }] } }))
        .unwrap();
        let pod = |name: &str, ready: &str, deleted: Option<&str>| {
            from_value(json!({
                "metadata": { "name": name, "deletionTimestamp": deleted },
                "spec": { "nodeName": "n", "containers": [] },
                "status": { "conditions": [{ "type": "Ready", "status": ready }] },
            }))
            .unwrap()
        };
        let ours = [
            pod("old", "True", Some("2026-11-21T00:00:00Z")),
            pod("now", "True", None),
            pod("next", "False", None),
        ];
        let facts = &placed(&[node], &ours)[0];
        assert!(facts.is_ready && facts.is_ours);
        assert_eq!(facts.draining.len(), 1);
        assert_eq!(facts.pod.as_ref().unwrap().metadata.name.as_deref(), Some("now"));
    }
}
