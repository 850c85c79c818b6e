//! Culvert is removed while pods are at work: they go on in clear, nothing of it is left, and it can be installed again.
//!
//! The file's name makes it the last: other tests find Culvert installed.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use culvert_cluster::Node;
use culvert_cluster_tests::{Load, PodSpec, Rules, Wire, World, attached_programs, built, until};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

/// The CNI's, and ours that is made of it.
const CONFLIST: &str = "/etc/cni/net.d/10-cluster.conflist";
const OURS: &str = "/etc/cni/net.d/00-culvert.conflist";

#[test]
fn culvert_uninstall_removes_everything_under_load() {
    removed_under_load("uninstall", |world| {
        let mut command = world.culvert();
        command.args(["uninstall", "--yes"]);
        command
    });
}

#[test]
fn deleting_the_manifests_removes_everything_under_load() {
    removed_under_load("delete", |world| {
        let mut command = world.cluster().kubectl();
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/daemonset");
        command.args(["delete", "-k"]).arg(manifests);
        command
    });
}

/// `helm uninstall` deletes the agents' rights together with the agents; its hook tells them before.
#[test]
fn helm_uninstall_lets_every_pod_go() {
    removed_by_helm("helm", &[]);
}

/// As a GitOps tool prunes: everything is deleted at once.
#[test]
fn helm_uninstall_without_hooks_lets_every_pod_go() {
    removed_by_helm("helm-no-hooks", &["--no-hooks"]);
}

fn removed_by_helm(name: &str, options: &[&str]) {
    let world = World::installed();
    uninstall(&world, 0);
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/helm/culvert");
    let namespace = ["--namespace", "culvert-system"];
    let install = [
        "--create-namespace",
        "--set",
        "image.pullPolicy=Never",
        "--timeout",
        "5m",
        "culvert",
    ];
    run(helm(&world).arg("install").args(namespace).args(install).arg(chart));
    world.wait_ready();
    let space = world.space(name);
    space.enrol();
    space.start(&[
        PodSpec::server("server1").on("node1"),
        PodSpec::server("server2").on("node2"),
    ]);
    space.wait_captured(&["server1", "server2"]);
    let two = space.address("server2");

    run(helm(&world)
        .arg("uninstall")
        .args(namespace)
        .args(options)
        .args(["--timeout", "5m", "culvert"]));
    nothing_runs_or_is_left_on_the_nodes(&world);
    // Pods that were captured and pods that are made now.
    let load = Load::start(&space, "load", "node1", &two);
    load.wait_more(50);
    load.stop().assert_unharmed("a removal by Helm");
    world.kubectl(&["delete", "namespace", "culvert-system"]);
    World::installed();
}

/// Removed while a node is away: it is named; when it is back, its pods wait for a while, and not for ever.
#[test]
fn a_node_that_was_away_is_named_and_frees_itself() {
    let world = World::installed();
    let node = world.node("node2");
    let space = world.space("away");
    space.enrol();
    let always = |pod: PodSpec| pod.on("node2").spec("restartPolicy", serde_json::json!("Always"));
    space.start(&[always(PodSpec::server("server"))]);
    space.wait_captured(&["server"]);
    let _back = Back(node);
    node.kill().unwrap();
    until("the cluster to notice that the node is away", || {
        let node = world.get(&["node", "node2"]);
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions
            .iter()
            .any(|one| one["type"] == "Ready" && one["status"] != "True")
    });
    let said = uninstall(&world, 1);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["left_behind"][0]["node"], "node2", "{said}");

    node.boot().unwrap();
    // The kubelet has dropped its pods of Culvert, and says so by way of the plug-in.
    space.create_pods(&[always(PodSpec::server("new"))]);
    world.wait_event(space.name(), "new", "nobody comes", |reason, message| {
        reason == "FailedCreatePodSandBox" && message.contains("has had no pod of it")
    });
    assert!(node.own(OURS).exists());
    // Five minutes are long for a test: as if they had gone by.
    let back_date = "echo $(( $(cut -d. -f1 /proc/uptime) - 300 )) > /run/culvert/unattended";
    run(node.command("sh").args(["-c", back_date]));
    space.wait_ready(&["new", "server"]);

    // And all of it goes with one command, without a cluster.
    run(node
        .command(&built("culvert-agent").display().to_string())
        .arg("free-node"));
    assert!(!node.own(OURS).exists() && !node.own("/opt/cni/bin/culvert-cni").exists());
    assert!(!node.own("/var/lib/culvert/cni-state.json").exists());
    space.start(&[always(PodSpec::server("after"))]);
    World::installed();
    space.wait_captured(&["new", "server", "after"]);
}

/// While pods are captured and no agent runs, the command ends capture.
#[test]
fn a_node_is_freed_by_hand_while_its_pods_are_captured() {
    let world = World::installed();
    let node = world.node("node1");
    let agent = built("culvert-agent").display().to_string();
    let refused = node.command(&agent).arg("free-node").output().unwrap();
    assert!(!refused.status.success(), "an agent runs here");
    assert!(!attached_programs(node).is_empty() && node.own(OURS).exists());

    let space = world.space("freed");
    space.enrol();
    space.start(&[PodSpec::server("server").on("node1")]);
    space.wait_captured(&["server"]);
    // Deleted by force, with all its rights, as on a node that nobody reaches in time.
    let kubelet = culvert_cluster::NodeComponent::Kubelet;
    node.stop(kubelet).unwrap();
    for program in ["culvert-agent", "culvert-ztunnel"] {
        for process in node.pids_of(program).unwrap() {
            process.kill().unwrap();
        }
    }
    assert!(!attached_programs(node).is_empty(), "capture outlives the agent");
    run(node.command(&agent).arg("free-node"));
    assert_eq!(pins(node), Vec::<String>::new());
    assert_eq!(attached_programs(node), []);
    assert!(!node.own(OURS).exists());
    node.start(kubelet).unwrap();
    world.wait_ready();
    world.wait_agent("node1");
    space.wait_captured(&["server"]);
}

/// Boots the node if the test fails: others need it.
struct Back<'a>(&'a Node);

impl Drop for Back<'_> {
    fn drop(&mut self) {
        self.0.boot().unwrap();
    }
}

fn helm(world: &World) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/cluster/bin/helm"));
    command.env("KUBECONFIG", world.cluster().kubeconfig());
    command
}

/// `culvert uninstall`, which ends with this code; what it printed as JSON.
fn uninstall(world: &World, code: i32) -> String {
    let mut command = world.culvert();
    command.args(["uninstall", "--yes", "--output", "json"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

fn removed_under_load(name: &str, command: impl Fn(&World) -> Command) {
    let world = World::installed();
    let space = world.space(name);
    space.enrol();
    let servers = [("server1", "node1"), ("server2", "node2")];
    space.start(&servers.map(|(pod, node)| PodSpec::server(pod).on(node)));
    let (one, two) = (space.address("server1"), space.address("server2"));
    let inside = [
        Load::start(&space, "inside1", "node1", &two),
        Load::start(&space, "inside2", "node2", &one),
    ];
    let rules = Rules::of_nodes(&world);
    let wire = Wire::tap(&world, "node1");
    let addresses = ["server1", "server2", "inside1", "inside2"].map(|pod| space.ip(pod));
    inside[0].wait_more(50);
    assert_eq!(
        Wire::between_pods(&wire.take(), &addresses).clear,
        [],
        "the load is in the mesh"
    );
    for node in world.cluster().nodes() {
        assert!(
            !attached_programs(node).is_empty(),
            "nothing attached to {}",
            node.name()
        );
        assert!(!pins(node).is_empty(), "no pins on {}", node.name());
        assert!(
            !mesh_listeners(node).is_empty(),
            "nobody listens in pods of {}",
            node.name()
        );
        assert!(
            read(node, OURS).contains("culvert-cni"),
            "no plug-in on {}",
            node.name()
        );
    }

    let mut removal = command(&world).stdout(Stdio::null()).spawn().unwrap();
    // What is open in the tunnel goes on; what is new goes directly.
    until("pods to have left", || {
        world
            .cluster()
            .nodes()
            .iter()
            .all(|node| mesh_listeners(node).is_empty())
    });
    let outside = [
        Load::start(&space, "outside1", "node1", &two),
        Load::start(&space, "outside2", "node2", &one),
    ];
    inside[0].wait_more(50);
    assert!(
        !Wire::between_pods(&wire.take(), &addresses).opened_in_clear.is_empty(),
        "new connections go directly"
    );
    assert!(
        removal.try_wait().unwrap().is_none(),
        "it waits for what is open in the tunnel"
    );
    for load in inside {
        load.stop().assert_unharmed("pods that leave");
    }
    wait_well(&mut removal);
    outside[0].wait_more(100);
    nothing_is_left(&world);
    assert_eq!(Rules::of_nodes(&world), rules, "rules of the nodes");
    for load in outside {
        load.stop().assert_unharmed("a removal");
    }

    world.install();
    space.wait_captured(&["server1", "server2"]);
}

fn wait_well(removal: &mut Child) {
    until("the end of the removal", || removal.try_wait().unwrap().is_some());
    assert!(removal.wait().unwrap().success(), "the removal failed");
}

fn nothing_runs_or_is_left_on_the_nodes(world: &World) {
    for node in world.cluster().nodes() {
        let name = node.name();
        until(&format!("the end of Culvert's processes on {name}"), || {
            ["culvert-agent", "culvert-ztunnel", "culvert-controller"]
                .iter()
                .all(|program| node.pids_of(program).unwrap().is_empty())
        });
        assert_eq!(pins(node), Vec::<String>::new(), "pins on {name}");
        assert_eq!(attached_programs(node), [], "programs on {name}");
        assert_eq!(mesh_listeners(node), [], "listeners in pods of {name}");
        assert!(!node.own("/opt/cni/bin/culvert-cni").exists(), "plug-in on {name}");
        // The cluster writes it like this; no byte of it may differ.
        let conflist = read(node, CONFLIST);
        let value: Value = serde_json::from_str(&conflist).unwrap();
        assert_eq!(conflist, format!("{value:#}\n"), "{name}");
        assert!(!conflist.contains("culvert"), "{name}: {conflist}");
        let folder = node.own("/etc/cni/net.d");
        let files = fs::read_dir(&folder).unwrap().flatten().count();
        assert_eq!(files, 1, "files in {}", folder.display());
    }
}

fn nothing_is_left(world: &World) {
    nothing_runs_or_is_left_on_the_nodes(world);
    // What belongs to the namespace goes after it.
    let all = "configmaps,secrets,serviceaccounts,roles,rolebindings,leases";
    until("the end of Culvert's objects in namespaces", || {
        let left = world.kubectl(&["get", all, "--all-namespaces", "-o", "name"]);
        let left = ours(&left);
        eprintln!("still there: {left:?}");
        left.is_empty()
    });
    let all = "namespaces,clusterroles,clusterrolebindings";
    let left = world.kubectl(&["get", all, "-o", "name"]);
    assert_eq!(ours(&left), Vec::<&str>::new());
}

fn ours(names: &str) -> Vec<&str> {
    names.lines().filter(|name| name.contains("culvert")).collect()
}

/// What is pinned for Culvert on a node.
fn pins(node: &Node) -> Vec<String> {
    let found = node
        .command("find")
        .args(["/sys/fs/bpf", "-path", "*culvert*"])
        .output();
    let found = found.unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    String::from_utf8(found.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// The mesh's ports on which somebody listens in a pod of a node that runs the probe.
fn mesh_listeners(node: &Node) -> Vec<(i32, u16)> {
    let mut found = Vec::new();
    for process in node.pids_of("probe").unwrap() {
        for table in ["tcp", "tcp6"] {
            let path = format!("/proc/{}/net/{table}", process.pid());
            for line in fs::read_to_string(path).unwrap_or_default().lines().skip(1) {
                let words: Vec<&str> = line.split_whitespace().collect();
                let port = words[1].rsplit_once(':').unwrap().1;
                let port = u16::from_str_radix(port, 16).unwrap();
                // 0A is LISTEN.
                if words[3] == "0A" && [15001, 15006, 15008].contains(&port) {
                    found.push((process.pid(), port));
                }
            }
        }
    }
    found
}

fn read(node: &Node, path: &str) -> String {
    fs::read_to_string(node.own(path)).unwrap()
}
