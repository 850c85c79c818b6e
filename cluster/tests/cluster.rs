//! Real clusters, brought up and taken down. Needs root and the programs of `target/cluster/bin`, which
//! `cargo xtask cluster up` builds: therefore ignored unless asked for.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use culvert_cluster::{Cluster, Component, Error, NodeComponent, Options, wait_until};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

const SOME_TIME: Duration = Duration::from_secs(60);

/// Takes the cluster down also when a test fails.
struct Down(Options);

impl Drop for Down {
    fn drop(&mut self) {
        let _ = Cluster::down(&self.0.state, &self.0.name);
    }
}

fn options(name: &str, nodes: u8) -> Down {
    Down(Options::new(name, nodes).unwrap())
}

#[test]
#[ignore = "brings up a cluster: `cargo xtask test --cluster` runs it"]
fn a_cluster_survives_restarts_and_leaves_nothing_behind() {
    let down = options("t-life", 1);
    let cluster = Cluster::up(&down.0).unwrap();
    let node = cluster.node("node1").unwrap();
    let hostname = node.command("hostname").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&hostname.stdout), "node1\n");
    assert_eq!(node.command("false").status().unwrap().code(), Some(1));
    let pods = [
        "--all-namespaces",
        "--output=jsonpath={.items[*].metadata.uid} {.items[*].status.containerStatuses[*].restartCount}",
    ];
    let kubectl = cluster.kubectl_client();
    let before = kubectl.run(&[&["get", "pods"], &pods[..]].concat()).unwrap();
    for component in NodeComponent::ALL {
        let old = node.pids_of(component.name()).unwrap();
        node.restart(component).unwrap();
        assert_ne!(node.pids_of(component.name()).unwrap(), old, "{}", component.name());
    }
    cluster.kill(Component::ApiServer).unwrap();
    cluster.start_api_server().unwrap();
    cluster.restart_api_server().unwrap();
    assert_eq!(kubectl.run(&[&["get", "pods"], &pods[..]].concat()).unwrap(), before);
    cluster.check().unwrap();
    let again = Cluster::attach(&down.0.state, "t-life").unwrap();
    assert_eq!(again.kubeconfig(), cluster.kubeconfig());
    node.kill().unwrap();
    assert!(!node.is_up() && node.pids_of("kubelet").unwrap().is_empty());
    Cluster::down(&down.0.state, "t-life").unwrap();
    nothing_is_left(&down.0);
}

#[test]
#[ignore = "brings up a cluster: `cargo xtask test --cluster` runs it"]
fn a_killed_up_is_taken_down_whole() {
    let down = options("t-crash", 1);
    let mut up = Command::new(&down.0.launcher)
        .args(["up", "--name", "t-crash", "--nodes", "1", "--images", "/nonexistent"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let node = down.0.state.join("t-crash/node1/kubelet.log");
    wait_until("start of the node's kubelet", SOME_TIME, || node.exists()).unwrap();
    up.kill().unwrap();
    up.wait().unwrap();
    let error = Cluster::up(&down.0).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    Cluster::down(&down.0.state, "t-crash").unwrap();
    nothing_is_left(&down.0);
}

#[test]
#[ignore = "brings up a cluster: `cargo xtask test --cluster` runs it"]
fn two_clusters_do_not_see_each_other() {
    let (one, two) = (options("t-one", 0), options("t-two", 0));
    let (first, second) = (Cluster::up(&one.0).unwrap(), Cluster::up(&two.0).unwrap());
    assert_ne!(first.api_url(), second.api_url());
    first
        .kubectl_client()
        .run(&["create", "namespace", "only-here"])
        .unwrap();
    assert!(second.kubectl_client().run(&["get", "namespace", "only-here"]).is_err());
    Cluster::down(&one.0.state, "t-one").unwrap();
    nothing_is_left(&one.0);
    second.check().unwrap();
    second.kubectl_client().run(&["get", "--raw=/readyz"]).unwrap();
    Cluster::down(&two.0.state, "t-two").unwrap();
    nothing_is_left(&two.0);
}

#[test]
#[ignore = "brings up a cluster: `cargo xtask test --cluster` runs it"]
fn a_component_that_does_not_start_is_named_with_its_last_words_and_nothing_is_left() {
    let mut down = options("t-broken", 0);
    let folder = std::env::temp_dir().join(format!("culvert-cluster-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let kube = folder.join("kube");
    // The API server runs on: were it to end as well, the one that is named would be whichever the machine ran first.
    let script = "#!/bin/sh\ncase $0 in\n*/etcd) echo alas, no disk; exit 1 ;;\n*/kube-apiserver) exec sleep 600 ;;\n*) exit 1 ;;\nesac\n";
    fs::write(&kube, script).unwrap();
    fs::set_permissions(&kube, PermissionsExt::from_mode(0o755)).unwrap();
    down.0.programs.clone_from(&folder);
    let error = Cluster::up(&down.0).unwrap_err();
    fs::remove_dir_all(&folder).unwrap();
    let shown = error.to_string();
    assert!(matches!(error, Error::Component { .. }), "{shown}");
    assert!(shown.contains("etcd") && shown.contains("alas, no disk"), "{shown}");
    nothing_is_left(&down.0);
}

/// No process, control group, network namespace, mount or file of the cluster.
fn nothing_is_left(options: &Options) {
    let prefix = format!("cv-{}-", options.name);
    assert!(!options.state.join(&options.name).exists());
    assert!(
        !Path::new("/run/culvert-clusters")
            .join(format!("cluster-{}", options.name))
            .exists()
    );
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&prefix), "{mounts}");
    let groups = mounts.lines().filter(|line| line.contains(" - cgroup"));
    let folders = groups.filter_map(|line| line.split(' ').nth(4)).chain(["/run/netns"]);
    for folder in folders {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let left: Vec<_> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with(&prefix))
            .collect();
        assert!(left.is_empty(), "{folder}: {left:?}");
    }
    let folder = format!("{}/", options.state.join(&options.name).display());
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        assert!(!arguments.contains(&folder), "{arguments}");
    }
}
