//! New versions come and go, and nodes are emptied, while connections are open and new ones are made: nobody notices.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use culvert_cluster_tests::{Meshed, PodSpec, World, until};
use serde_json::json;

const SYSTEM: [&str; 2] = ["-n", "culvert-system"];

#[test]
fn the_nodes_pods_are_replaced_and_rolled_back() {
    replaced_and_rolled_back("daemonset/culvert-node");
}

#[test]
fn the_controllers_are_replaced_and_rolled_back() {
    replaced_and_rolled_back("deployment/culvert-controller");
}

fn replaced_and_rolled_back(workload: &str) {
    let world = World::installed();
    let meshed = Meshed::start(&world, "rollout");
    let before = pods(&world, workload);
    system(&world, &["set", "env", workload, "EXAMPLE=another"]);
    world.wait_ready();
    let between = pods(&world, workload);
    assert!(
        !between.iter().any(|pod| before.contains(pod)),
        "{before:?}, then {between:?}"
    );
    meshed.newcomer("new1", "node1");
    meshed.newcomer("new2", "node2");
    meshed.settle();
    system(&world, &["rollout", "undo", workload]);
    world.wait_ready();
    let after = pods(&world, workload);
    assert!(
        !after.iter().any(|pod| between.contains(pod)),
        "{between:?}, then {after:?}"
    );
    meshed.newcomer("back1", "node1");
    meshed.newcomer("back2", "node2");
    meshed.settle();
    meshed.finish(&format!("replacing {workload}, and back"));
    // A proxy ends as soon as its last connection has.
    until("the end of the old versions", || {
        system(&world, &["get", "pods", "-o", "name"]).lines().count() == 4
    });
}

#[test]
fn a_node_is_drained_and_comes_back() {
    let world = World::installed();
    let meshed = Meshed::start(&world, "drain");
    let space = &meshed.space;
    let pod = PodSpec::server("mover").manifest();
    let mut spec = pod["spec"].clone();
    spec["restartPolicy"] = json!("Always");
    spec["topologySpreadConstraints"] = json!([{
        "topologyKey": "kubernetes.io/hostname",
        "maxSkew": 1,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": { "matchLabels": pod["metadata"]["labels"] },
    }]);
    space.apply(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "mover" },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": pod["metadata"]["labels"] },
            "template": { "metadata": { "labels": pod["metadata"]["labels"] }, "spec": spec },
        },
    }));
    space.kubectl(&["rollout", "status", "deployment/mover", "--timeout=90s"]);
    let there = |node: &str| {
        let field = format!("--field-selector=spec.nodeName={node}");
        let pods = space.get(&["pods", "--selector=app=mover", &field]);
        let pods = pods["items"].as_array().unwrap().clone();
        let name = |pod: &serde_json::Value| pod["metadata"]["name"].as_str().unwrap().to_owned();
        pods.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(there("node2").len(), 1);
    // The load's own pods stay; a controller and whatever else is there moves.
    world.kubectl(&[
        "drain",
        "node2",
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--force",
        "--pod-selector=app notin (server1,server2,load1,load2)",
        "--timeout=120s",
    ]);
    space.kubectl(&["rollout", "status", "deployment/mover", "--timeout=90s"]);
    let moved = there("node1");
    assert_eq!((moved.len(), there("node2").len()), (2, 0));
    space.wait_captured(&moved.iter().map(String::as_str).collect::<Vec<_>>());
    meshed.newcomer("new1", "node1");
    meshed.settle();
    world.kubectl(&["uncordon", "node2"]);
    meshed.newcomer("new2", "node2");
    meshed.settle();
    meshed.finish("a drained node");
    world.wait_ready();
}

/// The pods of a workload that are not on their way out.
fn pods(world: &World, workload: &str) -> Vec<String> {
    let name = workload.split_once('/').unwrap().1;
    let label = format!("--selector=app.kubernetes.io/name={name}");
    let pods = world.get(&[&SYSTEM[..], &["pods", &label]].concat());
    let pods = pods["items"].as_array().unwrap();
    let stay = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    stay.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

fn system(world: &World, arguments: &[&str]) -> String {
    world.kubectl(&[&SYSTEM[..], arguments].concat())
}
