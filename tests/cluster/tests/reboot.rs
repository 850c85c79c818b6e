//! A node boots with its pods: its CNI writes its configuration before any agent is there, and no pod of the mesh says a word in clear.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use culvert_cluster_tests::{PodSpec, Space, Wire, World, until};
use culvert_lab::Namespace;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs};

/// Pods of node 1 that open connections to the other node from their first moment on.
const CALLERS: [&str; 4] = ["caller1", "caller2", "caller3", "caller4"];

#[test]
fn after_a_reboot_every_pod_is_back_and_nothing_was_in_clear() {
    let world = World::installed();
    let (node, space, outside) = (
        world.node("node1"),
        world.space("reboot"),
        world.space("reboot-outside"),
    );
    space.enrol();
    space.apply(json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": { "name": "default" },
        "spec": { "mtls": { "mode": "STRICT" } },
    }));
    let always = |pod: PodSpec, node: &str| pod.on(node).spec("restartPolicy", json!("Always"));
    space.start(&[
        PodSpec::server("server2").on("node2"),
        always(PodSpec::server("server1"), "node1"),
    ]);
    let server = space.address("server2");
    let callers = CALLERS.map(|name| {
        always(
            PodSpec::new(name, &["load", "--rate=20", "--open=2", "--to", &server]),
            "node1",
        )
    });
    space.create_pods(&callers);
    outside.start(&[always(PodSpec::server("bystander"), "node1")]);
    let ours: Vec<&str> = CALLERS.into_iter().chain(["server1"]).collect();
    space.wait_captured(&ours);
    wait_guarded(&world, &space, &ours);
    let wire = Wire::tap(&world, "node1");
    until("the callers to be at work", || wire.seen().encrypted_bytes > 10_000);
    let before = starts(&[&space, &outside]);
    let list = node.own("/etc/cni/net.d/00-culvert.conflist");
    let cnis = node.own("/etc/cni/net.d/10-cluster.conflist");
    assert!(fs::read_to_string(&list).unwrap().contains("culvert-cni"));
    assert!(!fs::read_to_string(&cnis).unwrap().contains("culvert-cni"));

    // A socket that has something to send keeps its namespace when its process ends, and the kernel takes namespaces down in its own
    // time: none may answer for whoever has its pod's address next.
    let old = node.pids_of("probe").unwrap();
    let old: Vec<_> = old
        .iter()
        .map(|process| Namespace::open(&process.netns()).unwrap())
        .collect();
    assert!(old.len() > ours.len(), "{old:?}");
    node.kill().unwrap();
    assert!(node.pids_of("culvert-agent").unwrap().is_empty());
    // The CNI's file is gone and comes back when the node boots.
    fs::remove_file(&cnis).unwrap();
    node.boot().unwrap();
    until("the CNI to have written its file", || cnis.exists());

    let mut left: Vec<String> = before.keys().cloned().collect();
    until("every pod of the node to be back", || {
        let now = starts(&[&space, &outside]);
        left.retain(|pod| now.get(pod).is_none_or(|now| now.0 <= before[pod].0 || !now.1));
        eprintln!("not back yet: {left:?}");
        left.is_empty()
    });
    world.wait_agent("node1");
    world.wait_ready();
    space.wait_captured(&ours);
    wait_guarded(&world, &space, &ours);
    let seen = wire.seen().encrypted_bytes;
    until("the callers to be at work again", || {
        wire.seen().encrypted_bytes > seen + 10_000
    });
    let traffic = Wire::between_pods(&wire.take(), &[space.ip("server2")]);
    assert_eq!(traffic.clear_bytes(), 0, "in clear: {:?}", traffic.clear);
    assert_eq!(traffic.opened_in_clear, [], "opened in clear");
    assert!(fs::read_to_string(&list).unwrap().contains("culvert-cni"));
    // It is not in the mesh, and answers its kubelet again.
    outside.wait_ready(&["bystander"]);
    drop(old);
}

/// Waits until the links of these pods of node 1 are guarded as strict.
fn wait_guarded(world: &World, space: &Space<'_>, pods: &[&str]) {
    until("the pods' links to be guarded as strict", || {
        let page = world.agent_page("node1").unwrap_or_default();
        let shown = page["pods"].as_array().into_iter().flatten();
        let own: Vec<&Value> = shown.filter(|pod| pod["namespace"] == space.name()).collect();
        pods.iter().all(|name| {
            let guard = own.iter().find(|pod| pod["name"] == *name).map(|pod| &pod["guard"]);
            guard.is_some_and(|guard| guard["interfaces"] == 1 && guard["strict"] == true)
        })
    });
}

/// By pod of node 1: how often its container has started again, and whether it runs now.
fn starts(spaces: &[&Space<'_>]) -> BTreeMap<String, (u64, bool)> {
    let mut found = BTreeMap::new();
    for space in spaces {
        for pod in space.get(&["pods"])["items"].as_array().into_iter().flatten() {
            let status = &pod["status"]["containerStatuses"][0];
            if pod["spec"]["nodeName"] == "node1" {
                let name = format!("{}/{}", space.name(), pod["metadata"]["name"].as_str().unwrap());
                found.insert(name, (status["restartCount"].as_u64().unwrap_or(0), is_running(status)));
            }
        }
    }
    found
}

fn is_running(status: &Value) -> bool {
    !status["state"]["running"].is_null()
}
