//! The gate that holds new pods of enrolled namespaces back until they are captured: it stays in its place, and without an
//! agent it stays closed for those, and open for all others.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use culvert_cluster::{Node, Process};
use culvert_cluster_tests::{Load, PodSpec, Space, Wire, World, eventually, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

const PLUGIN: &str = "culvert-cni";

#[test]
fn a_cni_configuration_that_is_replaced_leaves_the_gate_in_force() {
    let world = World::installed();
    let node = world.node("node1");
    let space = world.space("replaced");
    space.enrol();
    space.start(&[PodSpec::server("server").on("node2")]);
    let own = wait_gate(node);
    let file = own.with_file_name("10-cluster.conflist");
    let plain = fs::read_to_string(&file).unwrap();
    assert!(!plain.contains(PLUGIN), "the CNI's own file: {plain}");

    // Written over, as network add-ons do.
    fs::write(&file, &plain).unwrap();
    a_new_pod_is_gated(&space, "after-write");
    // Replaced by another file of that name, as others do.
    let other = file.with_extension("new");
    fs::write(&other, &plain).unwrap();
    fs::rename(&other, &file).unwrap();
    a_new_pod_is_gated(&space, "after-rename");
    // A configuration that comes first, by its name.
    let first = file.with_file_name("05-first.conflist");
    fs::write(&first, plain.replacen("\"cluster\"", "\"first\"", 1)).unwrap();
    let follows = |name: &str| {
        until(&format!("the list of ours to be made of {name}"), || {
            fs::read_to_string(&own).is_ok_and(|text| text.contains(&format!("\"{name}\"")) && text.contains(PLUGIN))
        });
    };
    follows("first");
    fs::remove_file(&first).unwrap();
    follows("cluster");
    // Ours, and the program itself.
    fs::remove_file(&own).unwrap();
    assert_eq!(wait_gate(node), own);
    let program = node.own("/opt/cni/bin").join(PLUGIN);
    fs::remove_file(&program).unwrap();
    until("the plug-in's program to be back", || program.is_file());
    a_new_pod_is_gated(&space, "after-removal");
}

/// A version whose programs the kernel refuses must not replace one that works, on this node or on the next.
#[test]
fn an_agent_that_could_not_take_over_stands_by_unready_and_says_why() {
    let world = World::installed();
    let second = SecondAgent::start(&world, |spec| {
        spec["containers"][0]["env"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "name": "CULVERT_BPFFS", "value": "/run/culvert" }));
    });
    let page = eventually(
        "the second agent to stand by and say why it could not take over",
        || {
            second
                .page()
                .filter(|page| page["obstacle"].as_str().is_some_and(|text| text.contains("bpf")))
        },
    );
    assert_eq!(page["ready"], false, "{page}");
    assert!(!second.is_ready(), "an update would go on");
}

#[test]
fn without_an_agent_pods_of_enrolled_namespaces_wait_with_an_event_and_others_start() {
    let world = World::installed();
    let (inside, outside) = (world.space("waiting"), world.space("others"));
    inside.enrol();
    inside.start(&[
        PodSpec::server("server").on("node2"),
        PodSpec::server("near").on("node1"),
    ]);
    inside.wait_captured(&["server", "near"]);
    let load = Load::start(&inside, "load", "node1", inside.address("server"));
    inside.wait_captured(&["load"]);
    // It must have told the plug-in which namespaces are enrolled.
    let node = world.node("node1");
    let state = node.own("/var/lib/culvert/cni-state.json");
    until("the agent to write down which namespaces are enrolled", || {
        fs::read_to_string(&state).is_ok_and(|text| text.contains(inside.name()))
    });

    let agent = Stopped::all(node, "culvert-agent");
    inside.create_pods(&[asker("waits", &inside)]);
    outside.start(&[PodSpec::server("starts").on("node1")]);
    let message = world.wait_event(
        inside.name(),
        "waits",
        "the agent does not answer",
        |reason, message| reason == "FailedCreatePodSandBox" && message.contains("mesh agent"),
    );
    assert!(
        message.contains("is enrolled") && message.contains("culvert-node"),
        "{message}"
    );
    assert_eq!(inside.get(&["pod", "waits"])["status"]["phase"], "Pending");
    load.wait_more(100);
    drop(agent);

    let wire = Wire::tap(&world, "node1");
    until("the pod to start", || {
        inside.get(&["pod", "waits"])["status"]["phase"] == "Succeeded"
    });
    let traffic = Wire::between_pods(&wire.take(), &[inside.ip("waits")]);
    assert_eq!(traffic.clear, [], "in clear");
    load.wait_more(100);
    load.stop().assert_unharmed("an agent that hung");
}

#[test]
fn a_second_agent_on_a_node_stands_by_and_takes_over() {
    let world = World::installed();
    let space = world.space("two-agents");
    space.enrol();
    space.start(&[PodSpec::server("server").on("node2")]);
    let load = Load::start(&space, "load", "node1", space.address("server"));
    space.wait_captured(&["load"]);

    let second = SecondAgent::start(&world, |_| {});
    let page = eventually("the second agent to stand by", || second.page());
    assert_eq!(page["node"], "node1");
    assert!(page["standby"].is_string(), "{page}");
    until("the second agent to be ready", || second.is_ready());
    // The first is in charge, also of new pods.
    assert_eq!(
        world.state_of("node1", space.name(), "load").as_deref(),
        Some("captured")
    );
    a_new_pod_is_gated(&space, "beside-two");

    // The first goes on its own: the one that stood by is in charge at once.
    let (first, _) = world.culvert_pods("node1").remove(0);
    for process in agents_of(&world, &first) {
        process.kill().unwrap();
    }
    until("the second agent to be in charge", || {
        second
            .page()
            .is_some_and(|page| page["standby"].is_null() && page["ready"] == true)
    });
    a_new_pod_is_gated(&space, "after-takeover");
    drop(second);
    world.wait_ready();
    world.wait_agent("node1");
    space.wait_captured(&["load"]);
    a_new_pod_is_gated(&space, "after-all");
    load.wait_more(100);
    load.stop().assert_unharmed("two agents");
}

/// The pod that runs one more agent; it is deleted with this value.
struct SecondAgent<'a>(&'a World);

impl<'a> SecondAgent<'a> {
    /// The agent's container of the DaemonSet, once more, beside it on node 1; `change` changes the pod's specification.
    fn start(world: &'a World, change: impl Fn(&mut Value)) -> Self {
        let set = world.get(&["daemonset", "culvert-node", "-n", "culvert-system"]);
        let mut spec = set["spec"]["template"]["spec"].clone();
        spec["containers"]
            .as_array_mut()
            .unwrap()
            .retain(|container| container["name"] == "agent");
        spec["nodeName"] = json!("node1");
        spec["terminationGracePeriodSeconds"] = json!(30);
        change(&mut spec);
        world.apply(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "second-agent", "namespace": "culvert-system", "labels": { "app.kubernetes.io/name": "second-agent" },
            },
            "spec": spec,
        }));
        Self(world)
    }

    fn pod(&self) -> Value {
        let pod = ["pod", "second-agent", "-n", "culvert-system"];
        self.0.client().get(&pod).unwrap_or_default()
    }

    fn is_ready(&self) -> bool {
        let pod = self.pod();
        pod["status"]["containerStatuses"][0]["ready"] == true
    }

    fn page(&self) -> Option<Value> {
        let address = self.pod()["status"]["podIP"].as_str()?.parse().ok()?;
        self.0.page(address)
    }
}

impl Drop for SecondAgent<'_> {
    fn drop(&mut self) {
        let _ = self.0.client().run(&[
            "-n",
            "culvert-system",
            "delete",
            "pod",
            "second-agent",
            "--ignore-not-found",
        ]);
    }
}

/// The agents' processes in a pod of Culvert's.
fn agents_of(world: &World, pod: &str) -> Vec<Process> {
    let found = world.get(&["pod", pod, "-n", "culvert-system"]);
    let uid = found["metadata"]["uid"].as_str().unwrap().to_owned();
    let node = world.node(found["spec"]["nodeName"].as_str().unwrap());
    let ours = |process: &Process| {
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", process.pid())).unwrap_or_default();
        groups.contains(&uid) || groups.contains(&uid.replace('-', "_"))
    };
    node.pids_of("culvert-agent")
        .unwrap()
        .into_iter()
        .filter(ours)
        .collect()
}

/// Processes that are held by SIGSTOP until this value is dropped.
struct Stopped(Vec<Process>);

impl Stopped {
    fn all(node: &Node, program: &str) -> Self {
        let stopped = Self(node.pids_of(program).unwrap());
        assert!(!stopped.0.is_empty(), "no {program} runs on {}", node.name());
        stopped.signal(Signal::STOP);
        stopped
    }

    fn signal(&self, signal: Signal) {
        for process in self.0.iter().filter(|process| process.is_alive()) {
            let _ = kill_process(Pid::from_raw(process.pid()).unwrap(), signal);
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
    }
}

/// A pod that asks the server on the other node at once, and ends well if it was answered.
fn asker(name: &str, space: &Space<'_>) -> PodSpec {
    PodSpec::new(name, &["ask", "--to", &space.address("server")]).on("node1")
}

/// Starts a pod whose first act is a connection, which must be encrypted.
fn a_new_pod_is_gated(space: &Space<'_>, name: &str) {
    let wire = Wire::tap(space.world(), "node1");
    space.create_pods(&[asker(name, space)]);
    until(&format!("{name} to have asked"), || {
        let phase = space.get(&["pod", name])["status"]["phase"].clone();
        assert_ne!(phase, "Failed", "{name}: {}", space.kubectl(&["logs", name]));
        phase == "Succeeded"
    });
    let seen = wire.take();
    assert_eq!(
        Wire::between_pods(&seen, &[space.ip(name)]).clear,
        [],
        "{name} spoke in clear"
    );
    assert!(seen.encrypted_bytes > 1024, "{name}: nothing is in the tunnel");
}

/// The node's network configuration that is in force, with the gate in it.
fn conflist(node: &Node) -> (PathBuf, String) {
    let folder = node.own("/etc/cni/net.d");
    eventually("a network configuration with the gate", || {
        let mut files: Vec<PathBuf> = fs::read_dir(&folder)
            .ok()?
            .flatten()
            .map(|entry| entry.path())
            .collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "conflist"));
        files.sort();
        let file = files.into_iter().next()?;
        let text = fs::read_to_string(&file).ok()?;
        text.contains(PLUGIN).then_some((file, text))
    })
}

/// Waits until the gate is in the configuration that is in force, whole; that file.
fn wait_gate(node: &Node) -> PathBuf {
    let (file, text) = conflist(node);
    let parsed: Result<Value, _> = serde_json::from_str(&text);
    assert!(parsed.is_ok(), "{}: {text}", file.display());
    file
}
