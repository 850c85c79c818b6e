//! Netfilter and routing rules, which Culvert never adds to.

use crate::World;
use culvert_cluster::Node;
use culvert_lab::{Namespace, netfilter};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path, process::Command};

/// The rules of every node, and of the network namespaces in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Rules by node and table, without kube-proxy's, which change with every Service.
    pub tables: BTreeMap<String, usize>,
    /// Entries of `ip rule`, by node.
    pub routing: BTreeMap<String, usize>,
}

impl Rules {
    /// The rules as they are.
    pub fn of_nodes(world: &World) -> Self {
        let mut rules = Self::default();
        for node in world.cluster().nodes() {
            for entry in json(node.command("nft").args(["-j", "list", "ruleset"]))["nftables"]
                .as_array()
                .unwrap()
            {
                let rule = &entry["rule"];
                let (Some(family), Some(table)) = (rule["family"].as_str(), rule["table"].as_str()) else {
                    continue;
                };
                if table != "kube-proxy" {
                    *rules
                        .tables
                        .entry(format!("{} {family} {table}", node.name()))
                        .or_default() += 1;
                }
            }
            let count = json(node.command("ip").args(["-j", "rule", "list"]))
                .as_array()
                .unwrap()
                .len();
            rules.routing.insert(node.name().to_owned(), count);
        }
        rules
    }

    /// How many netfilter rules of any kind, and how many entries of `ip rule`, there are in the network namespace of a
    /// pod's processes called `program`, for each of them.
    pub fn of_pods(node: &Node, program: &str) -> Vec<(u64, usize)> {
        let processes = node.pids_of(program).unwrap();
        let mut found = Vec::new();
        for process in processes {
            let path = format!("/proc/{}/ns/net", process.pid());
            // One that has ended has no rules.
            let Ok(netns) = Namespace::open(Path::new(&path)) else {
                continue;
            };
            let netfilter = netfilter::rules(&netns).unwrap();
            let routing = netns
                .run(|| json(Command::new("ip").args(["-j", "rule", "list"])))
                .unwrap();
            found.push((netfilter, routing.as_array().unwrap().len()));
        }
        found
    }
}

fn json(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}
