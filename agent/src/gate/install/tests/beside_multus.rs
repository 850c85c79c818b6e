//! Beside plug-ins that make their configuration of the first file, or run what a file of the folder says.

use std::fs;

use serde_json::{Value, json};

use super::*;

/// How Multus finds what to delegate to: the first by name that is not its own. Versions differ in what they take for their own.
fn master_of(node: &Node, own: &str) -> String {
    let is_one = |name: &String| !name.starts_with(own) && (name.ends_with(".conf") || name.ends_with(".conflist"));
    node.names().into_iter().find(is_one).expect("something to delegate to")
}

/// Multus 3 and 4 (thin): the other configuration is inside.
fn starts_thin(node: &Node) {
    let master = master_of(node, "00-multus.conf");
    let delegate: Value = serde_json::from_str(&node.read(&master)).expect("JSON");
    let config = json!({
        "cniVersion": "0.3.1", "name": "multus-cni-network", "type": "multus", "kubeconfig": "/etc/cni/net.d/multus.d/multus.kubeconfig",
        "delegates": [delegate],
    });
    node.write("00-multus.conf", &config.to_string());
}

/// Multus 4 (thick): a path, as its daemon sees it.
fn starts_thick(node: &Node) {
    let master = master_of(node, "00-multus");
    let folder = node.places.conf_dir.display();
    let config = json!({
        "cniVersion": "0.3.1", "name": "multus-cni-network", "type": "multus-shim", "clusterNetwork": format!("/host{folder}/{master}"),
    });
    node.write("00-multus.conf", &config.to_string());
}

/// What a pod is given, in order, starting from the file in force.
fn run(node: &Node) -> Vec<String> {
    let text = node.read(&node.in_force());
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    let mut ran = Vec::new();
    for _ in 0..4 {
        let plugins = config["plugins"]
            .as_array()
            .cloned()
            .unwrap_or_else(|| vec![config.clone()]);
        let mut next = None;
        for plugin in plugins {
            ran.push(plugin["type"].as_str().expect("type").to_owned());
            if let Some(path) = plugin["clusterNetwork"].as_str() {
                let name = Path::new(path)
                    .file_name()
                    .expect("name")
                    .to_string_lossy()
                    .into_owned();
                next = Some(serde_json::from_str(&node.read(&name)).expect("JSON"));
            } else if plugin["delegates"].is_array() {
                next = Some(plugin["delegates"][0].clone());
            }
        }
        match next {
            Some(next) => config = next,
            None => return ran,
        }
    }
    panic!("it delegates without end: {ran:?}");
}

/// k8snetworkplumbingwg/multus-cni#1130: a file derived from Multus' own is the first at its next start.
#[test]
fn multus_never_delegates_to_itself_however_often_it_starts() {
    for (starts, shim) in [(starts_thin as fn(&Node), "multus"), (starts_thick, "multus-shim")] {
        for (original, text, types) in [
            ("10-ptp.conflist", PTP, vec!["ptp", "portmap"]),
            ("10-net.conf", SINGLE, vec!["bridge"]),
        ] {
            let mut node = Node::new();
            node.write(original, text);
            starts(&node);
            let expected: Vec<&str> = [vec![shim], types, vec!["culvert-cni"]].concat();
            for start in 0..5 {
                let standing = node.look();
                assert!(standing.is_installed(), "{standing:?}");
                assert_eq!(node.in_force(), "00-multus.conf");
                assert_eq!(run(&node), expected, "{original}, start {start}");
                // The node boots: the CNI and Multus write theirs before any agent is there.
                node.write(original, text);
                starts(&node);
                assert_eq!(run(&node), expected, "{original}, boot {start}");
            }
            assert_eq!(node.names().len(), 3, "{:?}", node.names());
            remove(&node.places).expect("remove");
            assert_eq!(node.names(), ["00-multus.conf", original]);
            assert_eq!(run(&node), expected[..expected.len() - 1], "and pods start without us");
            assert_eq!(node.read(original), text);
        }
    }
}

/// Multus comes when we are there: it delegates to our list, which comes before it.
#[test]
fn multus_may_come_later() {
    for (starts, shim) in [(starts_thin as fn(&Node), "multus"), (starts_thick, "multus-shim")] {
        let mut node = Node::new();
        node.write("10-ptp.conflist", PTP);
        node.look();
        starts(&node);
        for _ in 0..3 {
            node.look();
            assert_eq!(node.in_force(), "00-multus.conf");
            assert_eq!(run(&node), [shim, "ptp", "portmap", "culvert-cni"]);
            starts(&node);
        }
        // And go.
        fs::remove_file(node.path("00-multus.conf")).expect("delete");
        node.look();
        assert_eq!(run(&node), ["ptp", "portmap", "culvert-cni"]);
        assert_eq!(node.names(), ["00-culvert.conflist", "10-ptp.conflist"]);
    }
}

/// OpenShift: what Multus delegates to is in a folder of its own, and it makes nothing of this folder's files.
#[test]
fn where_multus_delegates_to_another_folder_the_list_comes_before_it() {
    let mut node = Node::new();
    let multus = json!({
        "cniVersion": "0.3.1", "name": "multus-cni-network", "type": "multus-shim",
        "clusterNetwork": "/host/run/multus/cni/net.d/10-ovn-kubernetes.conf",
    });
    node.write("00-multus.conf", &multus.to_string());
    node.places.network = Some("multus-cni-network".to_owned());
    assert!(node.look().is_installed());
    assert_eq!(node.in_force(), "00-culvert.conflist");
    assert_eq!(node.types("00-culvert.conflist"), ["multus-shim", "culvert-cni"]);
    remove(&node.places).expect("remove");
    assert_eq!(node.read("00-multus.conf"), multus.to_string());
}

#[test]
fn where_there_is_nothing_to_delegate_to_yet_nothing_is_written() {
    let mut node = Node::new();
    node.write(
        "00-multus.conf",
        r#"{"name":"m","type":"multus","delegates":[{"type":"ptp"}]}"#,
    );
    let problem = node.look().problem().expect("a problem");
    assert!(problem.contains("there is none yet"), "{problem}");
    assert_eq!(node.names(), ["00-multus.conf"]);
}

/// It chooses among the folder's files by its own rules.
#[test]
fn genies_other_configuration_gets_the_entry_itself() {
    let mut node = Node::new();
    node.write(
        "00-genie.conf",
        r#"{"name":"k8s-pod-network","type":"genie","default_plugin":"flannel"}"#,
    );
    node.write("10-flannel.conflist", FLANNEL);
    assert_eq!(node.look().configuration, Some(node.path("10-flannel.conflist")));
    assert_eq!(node.types("10-flannel.conflist"), ["flannel", "portmap", "culvert-cni"]);
    assert_eq!(node.look().configuration, Some(node.path("10-flannel.conflist")));
    assert_eq!(node.names(), ["00-genie.conf", "10-flannel.conflist"]);
    remove(&node.places).expect("remove");
    assert_eq!(node.read("10-flannel.conflist"), FLANNEL);
}
