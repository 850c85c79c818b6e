//! What carries the mesh fails while connections are open and new ones are made: those wait and succeed, and pods that are made
//! right after are encrypted from their first packet on.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use culvert_cluster::{Cluster, Component, Node, NodeComponent, Process};
use culvert_cluster_tests::{Load, Meshed, PodSpec, World, now_ms, until};
use std::fs;

#[test]
fn the_api_server_goes_away_and_comes_back() {
    World::attach().cluster().start_api_server().unwrap();
    let world = World::installed();
    let meshed = Meshed::start(&world, "api-server");
    let back = Back(world.cluster());
    world.cluster().stop_api_server().unwrap();
    assert!(world.cluster().component(Component::ApiServer).is_none());
    meshed.settle();
    meshed.settle();
    drop(back);
    meshed.newcomer("new1", "node1");
    meshed.newcomer("new2", "node2");
    meshed.settle();
    meshed.finish("an API server that was away");
    world.wait_ready();
}

/// Starts the API server again, also when the test fails: others need it.
struct Back<'a>(&'a Cluster);

impl Drop for Back<'_> {
    fn drop(&mut self) {
        self.0.start_api_server().unwrap();
    }
}

#[test]
fn a_kubelet_starts_again() {
    component_starts_again("kubelet", NodeComponent::Kubelet);
}

#[test]
fn containerd_starts_again() {
    component_starts_again("containerd", NodeComponent::Containerd);
}

fn component_starts_again(name: &str, component: NodeComponent) {
    let world = World::installed();
    let meshed = Meshed::start(&world, name);
    let node = world.node("node1");
    let before = node.pids_of(component.name()).unwrap();
    node.restart(component).unwrap();
    assert_ne!(
        node.pids_of(component.name()).unwrap(),
        before,
        "{name} was not restarted"
    );
    meshed.newcomer("new1", "node1");
    meshed.newcomer("new2", "node2");
    meshed.settle();
    meshed.finish(&format!("a restart of {name}"));
    world.wait_ready();
}

#[test]
fn a_killed_agent_is_replaced() {
    let world = World::installed();
    let meshed = Meshed::start(&world, "agent");
    kill(world.node("node1"), "culvert-agent", |_| true);
    meshed.newcomer("new1", "node1");
    meshed.newcomer("new2", "node2");
    meshed.settle();
    meshed.finish("a killed agent");
    world.wait_agent("node1");
    world.wait_ready();
}

#[test]
fn both_controllers_are_killed() {
    let world = World::installed();
    let meshed = Meshed::start(&world, "controllers");
    for node in world.cluster().nodes() {
        for process in node.pids_of("culvert-controller").unwrap() {
            process.kill().unwrap();
        }
    }
    meshed.newcomer("new1", "node1");
    meshed.newcomer("new2", "node2");
    meshed.settle();
    meshed.finish("killed controllers");
    world.wait_ready();
}

#[test]
fn a_proxys_worker_is_killed() {
    proxy_is_killed("worker", is_worker);
}

#[test]
fn a_proxy_is_killed_with_all_its_processes() {
    proxy_is_killed("container", |_| true);
}

/// Kills processes of the proxy on node 1. What was open through it breaks, and nothing else.
fn proxy_is_killed(name: &str, which: impl Fn(&Process) -> bool) {
    let world = World::installed();
    renew_what_ended_before(&world, "node1");
    let meshed = Meshed::start(&world, name);
    // From one pod to another of node 2, which is no business of node 1's proxy.
    let beside = PodSpec::new(
        "beside",
        &[
            "load",
            "--rate=10",
            "--open=5",
            "--to",
            &meshed.space.address("server2"),
        ],
    );
    let beside = Load::start_with(&meshed.space, beside.on("node2"));
    let at = kill(world.node("node1"), "culvert-ztunnel", which);
    meshed.newcomer("new1", "node1");
    meshed.newcomer("new2", "node2");
    meshed.settle();
    beside.stop().assert_unharmed("another node's proxy was killed");
    let what = format!("a killed proxy ({name})");
    for report in meshed.stop(&what) {
        report.assert_no_failure_of_later(at, &what);
        eprintln!(
            "{what}: {} connections that were being made broke with those that were open ({})",
            report.failures, report.open_broken
        );
    }
    world.wait_ready();
}

/// Has Culvert's pod on a node made anew if a container of it has ended before: the kubelet makes the next one of such a pod
/// only after 10 s, 20 s and so on, and what is asked meanwhile gives up.
fn renew_what_ended_before(world: &World, node: &str) {
    let system = ["-n", "culvert-system"];
    let on_node = format!("--field-selector=spec.nodeName={node}");
    let label = "--selector=app.kubernetes.io/name=culvert-node";
    let pods = world.get(&[&["pods"], &system[..], &[&on_node, label]].concat());
    for pod in pods["items"].as_array().unwrap() {
        let containers = pod["status"]["containerStatuses"].as_array().unwrap();
        if containers.iter().any(|container| container["restartCount"] != 0) {
            let name = pod["metadata"]["name"].as_str().unwrap();
            eprintln!("made anew, since a container of it ended before: {name}, {containers:#?}");
            world.kubectl(&[&system[..], &["delete", "pod", name]].concat());
        }
    }
    world.wait_ready();
}

/// Kills processes of a program of Culvert on a node; waits until others have taken their place. When they had ended, in
/// milliseconds since 1970.
fn kill(node: &Node, program: &str, which: impl Fn(&Process) -> bool) -> u64 {
    let mut killed = node.pids_of(program).unwrap();
    killed.retain(&which);
    assert!(!killed.is_empty(), "no {program} on {}", node.name());
    for process in &killed {
        process.kill().unwrap();
    }
    let ended = now_ms();
    until(&format!("another {program} on {}", node.name()), || {
        let running = node.pids_of(program).unwrap();
        running
            .iter()
            .any(|process| which(process) && !killed.contains(process))
    });
    ended
}

/// Whether it is the part of a proxy that carries connections.
pub(crate) fn is_worker(process: &Process) -> bool {
    let arguments = fs::read(format!("/proc/{}/cmdline", process.pid())).unwrap_or_default();
    arguments
        .split(|byte| *byte == 0)
        .any(|argument| argument == b"--worker")
}
