//! The facts about an installed mesh: what the API server knows, and what agents, proxies and controllers say of
//! themselves, asked all at once. Judging them is for `check` and `status`.

use crate::{
    cluster::{Cluster, Failure, Page, Unanswered, fan, list, names, names::ports},
    install::stuck,
};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    coordination::v1::Lease,
    core::v1::{Namespace, Node, Pod},
};
use kube::{ResourceExt, api::ListParams};
use serde_json::Value;
use std::collections::BTreeMap;

/// Everything that was found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) deployment: Option<Deployment>,
    pub(crate) daemon_set: Option<DaemonSet>,
    /// The pod that holds the lease.
    pub(crate) leader: Option<String>,
    pub(crate) controllers: Vec<Controller>,
    pub(crate) nodes: Vec<NodeFacts>,
    pub(crate) namespaces: Vec<Namespace>,
    /// The cluster's, without our own.
    pub(crate) pods: Vec<Pod>,
}

/// A controller's pod and what it says.
#[derive(Debug)]
pub(crate) struct Controller {
    pub(crate) pod: Pod,
    pub(crate) status: Result<Value, Unanswered>,
}

/// A node, the pod of ours on it, and what that says.
#[derive(Debug, Default)]
pub(crate) struct NodeFacts {
    pub(crate) name: String,
    pub(crate) is_ready: bool,
    /// Whether our DaemonSet means this node: it runs Linux.
    pub(crate) is_ours: bool,
    pub(crate) pod: Option<Pod>,
    /// Others of ours there that may serve it in truth: while a version replaces another, one stands by.
    pub(crate) others: Vec<Pod>,
    /// Pods of ours that are on their way out, and carry their last connections.
    pub(crate) draining: usize,
    pub(crate) said: Option<Said>,
}

/// What agent and proxy of a node say.
#[derive(Debug)]
pub(crate) struct Said {
    /// The agent's `/pods`.
    pub(crate) agent: Result<Value, Unanswered>,
    /// The agent's `/metrics`.
    pub(crate) agent_metrics: Result<Page, Unanswered>,
    /// The proxy's readiness, with what is missing.
    pub(crate) proxy_ready: Result<Page, Unanswered>,
    /// The proxy's `/metrics`.
    pub(crate) proxy_metrics: Result<Page, Unanswered>,
    /// The proxy's `/certificates`.
    pub(crate) certificates: Result<Value, Unanswered>,
}

impl Survey {
    /// Asks everybody.
    pub(crate) async fn of(cluster: &Cluster) -> Result<Self, Failure> {
        let all = ListParams::default();
        let (namespaces_of, pods_of, nodes_of) = (cluster.all(), cluster.all(), cluster.all());
        let (namespaces, pods, nodes): (Vec<Namespace>, Vec<Pod>, Vec<Node>) = futures_util::try_join!(
            list(&namespaces_of, &all, "listing namespaces"),
            list(&pods_of, &all, "listing pods"),
            list(&nodes_of, &all, "listing nodes"),
        )?;
        if !namespaces
            .iter()
            .any(|namespace| namespace.name_any() == names::NAMESPACE)
        {
            return Err(Failure::NotInstalled);
        }
        let doing = |error| Failure::of("reading what is installed in culvert-system", error);
        let (deployments, daemon_sets, leases) = (
            cluster.ours::<Deployment>(),
            cluster.ours::<DaemonSet>(),
            cluster.ours::<Lease>(),
        );
        let (deployment, daemon_set, lease) = futures_util::try_join!(
            deployments.get_opt(names::CONTROLLER),
            daemon_sets.get_opt(names::NODE),
            leases.get_opt(names::CONTROLLER),
        )
        .map_err(doing)?;
        let (ours, pods): (Vec<Pod>, Vec<Pod>) = pods
            .into_iter()
            .partition(|pod| pod.namespace().as_deref() == Some(names::NAMESPACE));
        let (controllers, nodes) = futures_util::join!(
            fan::out(app(&ours, names::CONTROLLER), |pod| controller(cluster, pod)),
            fan::out(placed(&nodes, &app(&ours, names::NODE)), |node| asked(cluster, node)),
        );
        Ok(Self {
            deployment,
            daemon_set,
            leader: lease.and_then(|lease| lease.spec?.holder_identity),
            controllers,
            nodes,
            namespaces,
            pods,
        })
    }

    /// The labels of a namespace.
    pub(crate) fn labels_of(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        let found = self.namespaces.iter().find(|one| one.name_any() == namespace);
        found.map(ResourceExt::labels)
    }
}

/// The live pods of one of our programs.
fn app(ours: &[Pod], name: &str) -> Vec<Pod> {
    let is = |pod: &&Pod| {
        pod.labels()
            .get("app.kubernetes.io/name")
            .is_some_and(|value| value == name)
    };
    ours.iter().filter(is).cloned().collect()
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
            pod: candidates.next(),
            others: candidates.collect(),
            draining: leaving.len(),
            said: None,
            name,
        }
    };
    nodes.iter().map(facts).collect()
}

fn has_condition<'a>(
    mut conditions: impl Iterator<Item = &'a k8s_openapi::api::core::v1::NodeCondition>,
    name: &str,
) -> bool {
    conditions.any(|one| one.type_ == name && one.status == "True")
}

/// Whether all containers of a pod are ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|one| one.type_ == "Ready" && one.status == "True")
}

async fn controller(cluster: &Cluster, pod: Pod) -> Controller {
    let status = match not_running(&pod) {
        Some(reason) => Err(reason),
        None => {
            let page = cluster.admin_page(&pod.name_any(), ports::CONTROLLER, "/status").await;
            page.and_then(|page| page.json())
        }
    };
    Controller { pod, status }
}

/// Why a pod cannot be asked: it has no address yet.
fn not_running(pod: &Pod) -> Option<Unanswered> {
    let has_address = pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some());
    (!has_address).then(|| {
        let reason = stuck(pod, &[]).unwrap_or_else(|| "it is being started".to_owned());
        Unanswered(format!("does not run yet: {reason}"))
    })
}

/// Asks the pod of a node; the next one, if that one only stands by.
async fn asked(cluster: &Cluster, mut node: NodeFacts) -> NodeFacts {
    let Some(pod) = &node.pod else { return node };
    node.said = Some(said(cluster, pod).await);
    for other in std::mem::take(&mut node.others) {
        let stands_by = |said: &Said| said.agent.as_ref().is_ok_and(|page| !page["standby"].is_null());
        if !node.said.as_ref().is_some_and(stands_by) {
            break;
        }
        node.said = Some(said(cluster, &other).await);
        node.pod = Some(other);
    }
    node
}

async fn said(cluster: &Cluster, pod: &Pod) -> Said {
    if let Some(reason) = not_running(pod) {
        return Said {
            agent: Err(reason.clone()),
            agent_metrics: Err(reason.clone()),
            proxy_ready: Err(reason.clone()),
            proxy_metrics: Err(reason.clone()),
            certificates: Err(reason),
        };
    }
    let pod = &pod.name_any();
    let (agent, agent_metrics, proxy_ready, proxy_metrics, certificates) = futures_util::join!(
        cluster.admin_page(pod, ports::AGENT, "/pods"),
        cluster.page(pod, ports::AGENT, "/metrics"),
        cluster.page(pod, ports::PROXY_READY, "/healthz/ready"),
        cluster.page(pod, ports::PROXY_METRICS, "/metrics"),
        cluster.admin_page(pod, ports::PROXY_ADMIN, "/certificates"),
    );
    Said {
        agent: agent.and_then(|page| page.json()),
        agent_metrics,
        proxy_ready,
        proxy_metrics,
        certificates: certificates.and_then(|page| page.json()),
    }
}

/// The values of one metric: labels as they stand, without braces, and the number.
pub(crate) fn metric<'a>(page: &'a str, name: &str) -> Vec<(&'a str, f64)> {
    let line = |line: &'a str| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once('}')?,
            None => ("", rest),
        };
        // What follows the name must be a value, or this is a longer name.
        let value = value.strip_prefix(' ')?;
        Some((labels, value.split(' ').next()?.parse().ok()?))
    };
    page.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{metric, placed};
    use serde_json::{from_value, json};

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let page = "# HELP a words\na 1\nab 2\nb{map=\"x\",y=\"}\"} 3\n";
        assert_eq!(metric(page, "a"), [("", 1.0)]);
        assert_eq!(metric(page, "b"), [("map=\"x\",y=\"}\"", 3.0)]);
        assert!(metric(page, "c").is_empty());
    }

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
        assert_eq!(facts.draining, 1);
        assert_eq!(facts.pod.as_ref().unwrap().metadata.name.as_deref(), Some("now"));
    }
}
