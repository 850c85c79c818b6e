//! How many netfilter and routing rules the nodes and the pods have, apart from kube-proxy's, which come and go with
//! Services.

use crate::shell;
use anyhow::{Context, Result};
use culvert_cluster::{Cluster, Node};
use culvert_lab::{Namespace, netfilter};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

/// The process that every pod has, and by which its network namespace is found.
const PAUSE: &str = "culvert-pause";
/// The table of kube-proxy, which is of the families ip and ip6.
const KUBE_PROXY: &str = "kube-proxy";

/// Rules by network namespace: how many of netfilter, and how many of `ip rule`.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules(BTreeMap<String, (u64, u64)>);

impl Rules {
    /// Counts the rules of all nodes and pods.
    pub(super) fn count(cluster: &Cluster) -> Result<Self> {
        let mut rules = BTreeMap::new();
        for node in cluster.nodes() {
            let namespace = Namespace::open(&node.netns())?;
            let netfilter = of_node(node)?;
            rules.insert(node.name().to_owned(), (netfilter, routing(&namespace)?));
            for (name, path) in pods(node)? {
                // One whose pod has ended has no rules.
                let Ok(namespace) = Namespace::open(&path) else {
                    continue;
                };
                rules.insert(name, (netfilter::rules(&namespace)?, routing(&namespace)?));
            }
        }
        Ok(Self(rules))
    }

    /// How many rules of each kind were added to any namespace since an earlier count. A namespace that was not there then
    /// had none of netfilter, and of routing what the kernel gives to each.
    pub(super) fn added_since(&self, before: &Self) -> (u64, u64) {
        let fresh = before.0.values().map(|(_, routing)| *routing).min().unwrap_or_default();
        let mut added = (0, 0);
        for (name, (netfilter, routing)) in &self.0 {
            let (old_netfilter, old_routing) = before.0.get(name).copied().unwrap_or((0, fresh));
            added.0 += netfilter.saturating_sub(old_netfilter);
            added.1 += routing.saturating_sub(old_routing);
        }
        added
    }
}

/// The network namespaces of a node's pods, each with a name that no other has.
fn pods(node: &Node) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for process in node.pids_of(PAUSE)? {
        let path = PathBuf::from(format!("/proc/{}/ns/net", process.pid()));
        if let Ok(id) = fs::read_link(&path) {
            found.insert(format!("{} {}", node.name(), id.display()), path);
        }
    }
    Ok(found)
}

fn of_node(node: &Node) -> Result<u64> {
    let text = shell::output(node.command("nft").args(["--json", "list", "ruleset"]))?;
    rules_in(&text).with_context(|| format!("rules of {}", node.name()))
}

/// The rules in what `nft --json list ruleset` prints, without kube-proxy's.
fn rules_in(text: &str) -> Result<u64> {
    let ruleset: Value = serde_json::from_str(text).context("nft's JSON")?;
    let entries = ruleset["nftables"].as_array().context("nft printed no ruleset")?;
    let others = entries.iter().filter(|entry| {
        let table = entry["rule"]["table"].as_str();
        table.is_some_and(|table| table != KUBE_PROXY)
    });
    Ok(others.count() as u64)
}

/// Entries of `ip rule` of both families.
fn routing(namespace: &Namespace) -> Result<u64> {
    let mut count = 0;
    for family in ["-4", "-6"] {
        let text = namespace.run(|| shell::output(Command::new("ip").args([family, "rule", "show"])))??;
        count += text.lines().count() as u64;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::{Rules, rules_in};

    #[test]
    fn only_rules_outside_kube_proxys_tables_count() {
        let text = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
            {"table": {"family": "ip", "name": "filter", "handle": 2}},
            {"chain": {"family": "ip", "table": "filter", "name": "OUTPUT"}},
            {"rule": {"family": "ip", "table": "filter", "chain": "OUTPUT", "handle": 3}},
            {"rule": {"family": "ip6", "table": "kube-proxy", "chain": "services", "handle": 9}}]}"#;
        assert_eq!(rules_in(text).unwrap(), 1);
        assert!(rules_in("{}").is_err());
    }

    #[test]
    fn what_was_there_before_is_not_counted_and_new_namespaces_are() {
        let rules = |all: &[(&str, u64, u64)]| {
            let all = all.iter();
            Rules(
                all.map(|(name, filter, routing)| ((*name).to_owned(), (*filter, *routing)))
                    .collect(),
            )
        };
        let before = rules(&[("node1", 7, 5), ("node1 pod", 0, 5), ("gone", 3, 5)]);
        let same = rules(&[("node1", 7, 5), ("node1 pod", 0, 5), ("new pod", 0, 5)]);
        assert_eq!(same.added_since(&before), (0, 0));
        let more = rules(&[("node1", 6, 5), ("node1 pod", 2, 6), ("new pod", 3, 7)]);
        assert_eq!(more.added_since(&before), (5, 3));
    }
}
