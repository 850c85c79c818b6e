//! Culvert is removed while pods are at work: they go on in clear, nothing of it is left, and it can be installed again.
//!
//! The file's name makes it the last: other tests find Culvert installed.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use culvert_cluster::Node;
use culvert_cluster_tests::{Load, PodSpec, Rules, Wire, World, attached_programs, until};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

const CONFLIST: &str = "/etc/cni/net.d/10-cluster.conflist";

#[test]
fn culvert_uninstall_removes_everything_under_load() {
    removed_under_load("uninstall", |world| {
        let mut command = Command::new(culvert());
        command.args(["uninstall", "--yes"]);
        command.env("KUBECONFIG", world.cluster().kubeconfig());
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
            read(node, CONFLIST).contains("culvert"),
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

fn nothing_is_left(world: &World) {
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

/// The program `culvert`, which is built before the tests.
fn culvert() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let program = this.ancestors().nth(2).unwrap().join("culvert");
    assert!(
        program.is_file(),
        "{}: build it with `cargo build --package culvert-cli`",
        program.display()
    );
    program
}
