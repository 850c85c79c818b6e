//! A setting that is changed on a running cluster is at work in every pod of Culvert and in its waypoints, and nobody's connections notice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper that fails is a test that fails"
)]

use crate::failure::is_worker;
use culvert_cluster_tests::{GatewayApi, Meshed, Space, World, until};
use serde_json::Value;
use std::fs;

const SYSTEM: [&str; 2] = ["-n", "culvert-system"];

/// The containers that log, each with the label of its pods.
const CONTAINERS: [(&str, &str); 3] = [
    ("culvert-controller", "controller"),
    ("culvert-node", "agent"),
    ("culvert-node", "ztunnel"),
];

#[test]
fn a_changed_setting_is_at_work_in_every_pod_and_in_waypoints_that_are_there() {
    let world = World::installed();
    let _api = GatewayApi::install(&world);
    let meshed = Meshed::start(&world, "settings");
    // Elsewhere: a waypoint asks the controller by itself, and the tap is for pods of the mesh.
    let waypoints = world.space("settings-waypoint");
    waypoints.waypoint("wp");
    wait_for_loops(&world, 1);
    wait_for_json(&world, &waypoints, true);

    let again = Defaults(&world);
    install(&world, &["--set=loops=2", "--set=log-format=text"]);
    wait_for_loops(&world, 2);
    wait_for_json(&world, &waypoints, false);
    meshed.settle();

    // They are kept by whoever installs again, and return to the programs' defaults when they are taken back.
    install(&world, &[]);
    wait_for_loops(&world, 2);
    drop(again);
    wait_for_loops(&world, 1);
    wait_for_json(&world, &waypoints, true);
    meshed.newcomer("new1", "node1");
    meshed.settle();
    meshed.finish("settings that change");
}

/// Takes the settings back, also when the test fails: others expect the defaults.
struct Defaults<'a>(&'a World);

impl Drop for Defaults<'_> {
    fn drop(&mut self) {
        install(self.0, &["--set=loops=", "--set=log-format="]);
    }
}

/// `culvert install` with these arguments; waits until the cluster is as they say.
fn install(world: &World, arguments: &[&str]) {
    let mut command = world.culvert();
    // The manifests were applied by somebody else, who wanted no ranges.
    command.args(["install", "--force", "--mesh-cidr=none"]).args(arguments);
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    world.wait_ready();
}

/// Waits until each node's proxy has so many event loops, each of which is a thread. Earlier proxies may still drain.
fn wait_for_loops(world: &World, wanted: usize) {
    for node in world.cluster().nodes() {
        until(&format!("{wanted} loops of the proxy on {}", node.name()), || {
            let processes = node.pids_of("culvert-ztunnel").unwrap();
            processes.iter().filter(|process| is_worker(process)).any(|worker| {
                let threads = fs::read_dir(format!("/proc/{}/task", worker.pid()))
                    .into_iter()
                    .flatten()
                    .flatten();
                let names = threads.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
                names.filter(|name| name.starts_with("loop-")).count() == wanted
            })
        });
    }
}

/// Waits until all pods of Culvert, and the waypoint's, log in JSON, or in text.
fn wait_for_json(world: &World, space: &Space<'_>, wanted: bool) {
    for (name, container) in CONTAINERS {
        let label = format!("--selector=app.kubernetes.io/name={name}");
        until(&format!("JSON of {container}: {wanted}"), || {
            let pods = world.get(&[&SYSTEM[..], &["pods", &label]].concat());
            let names = staying(&pods);
            !names.is_empty()
                && names.iter().all(|pod| {
                    let log = world
                        .client()
                        .run(&[&SYSTEM[..], &["logs", pod, "-c", container, "--tail=50"]].concat());
                    log.is_ok_and(|log| is_json(&log) == Some(wanted))
                })
        });
    }
    until(&format!("JSON of the waypoint: {wanted}"), || {
        let pods = space.get(&["pods", "--selector=gateway.networking.k8s.io/gateway-name=wp"]);
        let names = staying(&pods);
        let log = |pod: &String| world.client().run(&["-n", space.name(), "logs", pod, "--tail=50"]);
        !names.is_empty()
            && names
                .iter()
                .all(|pod| log(pod).is_ok_and(|log| is_json(&log) == Some(wanted)))
    });
}

/// The names of pods that are not on their way out.
fn staying(pods: &Value) -> Vec<String> {
    let pods = pods["items"].as_array().into_iter().flatten();
    let stay = pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    stay.filter_map(|pod| Some(pod["metadata"]["name"].as_str()?.to_owned()))
        .collect()
}

/// Whether every line is JSON, or none; nothing where it is neither, or nothing has been said.
fn is_json(log: &str) -> Option<bool> {
    let kinds: Vec<bool> = log.lines().map(|line| line.starts_with('{')).collect();
    let first = *kinds.first()?;
    kinds.iter().all(|kind| *kind == first).then_some(first)
}
