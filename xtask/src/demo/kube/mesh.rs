//! Culvert in the cluster: what its agents say of the pods, and the workers of its proxies.

use super::super::kernel_checks::{self, Privilege};
use super::shop::Pod;
use anyhow::{Context, Result};
use culvert_cluster::Cluster;
use culvert_lab::wait_for;
use serde_json::Value;
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

pub(super) use crate::installed::{SYSTEM, command, install, state};

/// The container of a node's proxy.
pub(super) const PROXY: &str = "ztunnel";
const PROXY_PROGRAM: &str = "culvert-ztunnel";
/// Where an agent tells of its pods.
const AGENT_PORT: u16 = 15022;
/// How long the pods may take to join. Debug builds on busy machines are slow.
const JOIN: Duration = Duration::from_secs(60);

/// Culvert's pod on each node: name and address.
pub(super) fn node_pods(cluster: &Cluster) -> Result<Vec<(String, IpAddr)>> {
    let label = "--selector=app.kubernetes.io/name=culvert-node";
    let pods = cluster.kubectl_client().get(&["pods", "--namespace", SYSTEM, label])?;
    let items = pods["items"].as_array().into_iter().flatten();
    let found: Vec<_> = items
        .filter_map(|pod| {
            let address = pod["status"]["podIP"].as_str()?.parse().ok()?;
            Some((pod["metadata"]["name"].as_str()?.to_owned(), address))
        })
        .collect();
    anyhow::ensure!(
        found.len() == cluster.nodes().len(),
        "there are {} pods of Culvert on {} nodes",
        found.len(),
        cluster.nodes().len()
    );
    Ok(found)
}

/// Waits until the agents say that each of these pods is captured.
pub(super) fn wait_captured(cluster: &Cluster, agents: &[(String, IpAddr)], pods: &[Pod]) -> Result<()> {
    let mut missing = Vec::new();
    let page = |agent: IpAddr| {
        // It is answered on the pod's own loopback alone.
        let inside = cluster.netns_of("culvert-agent", agent)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, AGENT_PORT));
        let answer = inside.run(|| culvert_lab::get(address, "/pods", Duration::from_secs(5)));
        answer.ok()?.ok().map(|answer| answer.body)
    };
    let done = wait_for("every pod of the bookstore to be captured", JOIN, || {
        let pages = agents.iter().filter_map(|(_, agent)| page(*agent));
        let captured: Vec<String> = pages.flat_map(|page| captured_in(&page)).collect();
        missing = pods
            .iter()
            .filter(|pod| !captured.contains(&pod.uid))
            .map(|pod| pod.name.clone())
            .collect();
        missing.is_empty().then_some(())
    });
    done.with_context(|| format!("not captured: {}", missing.join(", ")))
}

/// The uids of the pods that an agent has captured, from its page `/pods`.
fn captured_in(page: &str) -> Vec<String> {
    let page: Value = serde_json::from_str(page).unwrap_or_default();
    let pods = page["pods"].as_array().into_iter().flatten();
    pods.filter(|pod| pod["state"] == "captured")
        .filter_map(|pod| pod["uid"].as_str().map(str::to_owned))
        .collect()
}

/// What the worker of each node's proxy may do. A worker is the child of a process of the same program.
pub(super) fn workers(cluster: &Cluster) -> Result<Vec<Privilege>> {
    let mut workers = Vec::new();
    for node in cluster.nodes() {
        let before = workers.len();
        for monitor in node.pids_of(PROXY_PROGRAM)? {
            let pid = monitor.pid();
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
                workers.push(kernel_checks::privilege(child)?);
            }
        }
        anyhow::ensure!(workers.len() > before, "the proxy on {} has no worker", node.name());
    }
    Ok(workers)
}

#[cfg(test)]
mod tests {
    use super::captured_in;

    #[test]
    fn only_pods_that_are_captured_count_as_captured() {
        let page = r#"{"pods": [{"uid": "a", "state": "captured"}, {"uid": "b", "state": "waiting"}]}"#;
        assert_eq!(captured_in(page), ["a"]);
        assert!(captured_in("not ready yet").is_empty());
    }
}
