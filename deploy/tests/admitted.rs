//! The manifests before a real API server: it takes every object without a warning, grants what it should and no more, and
//! makes the pods. A control plane without nodes, so nothing runs.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{path::PathBuf, process::Command, time::Duration};

use culvert_cluster::{Cluster, Kubectl, Options, wait_until};
use culvert_deploy::{
    Values, manifests,
    privileges::{Permission, privileges},
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// The overlays beside the base. What `dev` and `hold-nodes` change overlaps with nothing.
const OVERLAYS: [&str; 3] = ["overlays/single-replica", "overlays/dev", "overlays/hold-nodes"];

struct ControlPlane {
    state: PathBuf,
    name: String,
    kubectl: Kubectl,
    kubeconfig: PathBuf,
    programs: PathBuf,
}

impl ControlPlane {
    /// Needs root, and what `cargo xtask cluster programs` builds.
    fn up() -> Self {
        let name = format!("deploy{}", std::process::id() % 100_000);
        let options = Options::new(&name, 0).unwrap();
        let cluster = Cluster::up(&options).unwrap();
        Self {
            kubectl: cluster.kubectl_client(),
            kubeconfig: cluster.kubeconfig().to_path_buf(),
            programs: options.programs,
            state: options.state,
            name,
        }
    }

    /// What it said; a warning is an error.
    fn apply(&self, folder: &str) -> String {
        let mut command = self.kubectl.command();
        command.args([
            "apply",
            "--validate=strict",
            "--warnings-as-errors",
            "-k",
            &here(folder),
        ]);
        run(&mut command)
    }

    fn get(&self, what: &str) -> Value {
        self.kubectl.get(&["-n", "culvert-system", what]).unwrap()
    }

    fn may(&self, account: &str, verb: &str, resource: &str, namespace: &str) -> bool {
        let who = format!("--as=system:serviceaccount:culvert-system:{account}");
        let mut command = self.kubectl.command();
        // kubectl takes what follows a slash for an object's name.
        let split = resource
            .rsplit_once('/')
            .filter(|(_, last)| SUBRESOURCES.contains(last));
        let (resource, subresource) = split.map_or((resource, None), |(resource, name)| (resource, Some(name)));
        command.args(["auth", "can-i", verb, resource, "-n", namespace, &who]);
        command.args(subresource.map(|name| format!("--subresource={name}")));
        let output = command.output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim() == "yes"
    }

    fn helm(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(self.programs.join("helm"));
        // Helm keeps nothing of its user's.
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", self.state.join(&self.name));
        run(command.args(["--namespace", "culvert-system"]).args(arguments))
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let down = Cluster::down(&self.state, &self.name);
        if !std::thread::panicking() {
            down.unwrap();
        }
    }
}

fn here(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    assert!(!errors.to_lowercase().contains("warning"), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// One control plane for all, since bringing one up takes longer than the rest.
#[test]
fn a_real_api_server_takes_the_manifests_and_grants_what_they_say() {
    let cluster = ControlPlane::up();
    // The controller of DaemonSets makes pods for nodes that nobody runs, too.
    cluster
        .kubectl
        .apply("{apiVersion: v1, kind: Node, metadata: {name: paper, labels: {kubernetes.io/os: linux, kubernetes.io/arch: amd64}}}")
        .unwrap();

    cluster.apply("crds");
    cluster.apply("daemonset");
    // It has nothing to add to what was asked for, so that the next apply changes nothing.
    run(cluster.kubectl.command().args(["diff", "-k", &here("daemonset")]));
    pods_are_made(&cluster);
    accounts_may_do_what_is_listed(&cluster);
    trust_bundles_can_be_made_and_nothing_else(&cluster);
    for overlay in OVERLAYS {
        cluster.apply(overlay);
    }
    run(cluster
        .kubectl
        .command()
        .args(["delete", "-k", &here("overlays/hold-nodes")]));
    nothing_of_ours_is_left(&cluster);

    let text: String = manifests(&Values::default())
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    cluster.kubectl.apply(&text).unwrap();
    cluster.kubectl.delete(&text).unwrap();
    nothing_of_ours_is_left(&cluster);

    helm_installs_changes_and_removes(&cluster);
}

/// Admission, with Pod Security, has its say when a pod is created, not when its workload is.
fn pods_are_made(cluster: &ControlPlane) {
    let count = |name: &str| {
        let pods = cluster.get("pods");
        let labels = pods["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pod| &pod["metadata"]["labels"]);
        labels.filter(|labels| labels["app.kubernetes.io/name"] == name).count()
    };
    wait_until("pods of both workloads", PATIENCE, || {
        count("culvert-node") == 1 && count("culvert-controller") == 2
    })
    .unwrap();
}

fn accounts_may_do_what_is_listed(cluster: &ControlPlane) {
    // kubectl asks about kinds alone that are there.
    for folder in ["istio", "gateway-api/experimental"] {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| here("../target").into(), PathBuf::from);
        let folder = target.join("crds").join(folder);
        assert!(folder.is_dir(), "{} is not there: cargo xtask crds", folder.display());
        let mut command = cluster.kubectl.command();
        run(command.args(["apply", "--server-side", "-f"]).arg(folder));
    }
    let established = ["--for=condition=Established", "crd", "--all", "--timeout=60s"];
    run(cluster.kubectl.command().arg("wait").args(established));
    // Each answer takes kubectl a second or so, most of it waiting.
    std::thread::scope(|scope| {
        for permission in privileges().unwrap().permissions {
            scope.spawn(move || assert!(is_granted(cluster, &permission), "{permission:?}"));
        }
        for (account, verb, resource, namespace) in NEVER {
            scope.spawn(move || {
                assert!(
                    !cluster.may(account, verb, resource, namespace),
                    "{account} may {verb} {resource}"
                )
            });
        }
    });
}

/// Whether the account may, or need not because only a component grants it.
fn is_granted(cluster: &ControlPlane, permission: &Permission) -> bool {
    if permission.component.is_some() {
        return true;
    }
    let group = if permission.group.is_empty() { "" } else { "." };
    let name = permission
        .names
        .first()
        .map_or(String::new(), |name| format!("/{name}"));
    let (resource, subresource) = match permission.resource.split_once('/') {
        Some((resource, subresource)) => (resource, format!("/{subresource}")),
        None => (&*permission.resource, String::new()),
    };
    let resource = format!("{resource}{group}{}{name}{subresource}", permission.group);
    let namespace = permission.namespace.as_deref().unwrap_or("default");
    cluster.may(&permission.role, &permission.verb, &resource, namespace)
}

/// What may follow a resource and is no object's name.
const SUBRESOURCES: [&str; 3] = ["status", "exec", "token"];

/// Account, verb, resource, namespace: what would be too much.
const NEVER: [(&str, &str, &str, &str); 12] = [
    ("culvert-node", "list", "secrets", "culvert-system"),
    ("culvert-node", "get", "secrets/culvert-ca", "culvert-system"),
    ("culvert-node", "patch", "nodes", "default"),
    ("culvert-node", "patch", "pods", "default"),
    (
        "culvert-node",
        "create",
        "tokenreviews.authentication.k8s.io",
        "default",
    ),
    ("culvert-node", "create", "serviceaccounts/token", "default"),
    ("culvert-controller", "update", "secrets/culvert-ca", "default"),
    ("culvert-controller", "list", "secrets", "culvert-system"),
    ("culvert-controller", "patch", "configmaps/other", "default"),
    ("culvert-controller", "delete", "pods", "default"),
    ("culvert-controller", "create", "pods/exec", "default"),
    ("culvert-controller", "create", "leases.coordination.k8s.io", "default"),
];

/// The right to create is limited to a name, which holds for server-side apply alone.
fn trust_bundles_can_be_made_and_nothing_else(cluster: &ControlPlane) {
    let apply = |name: &str| {
        let file = cluster.state.join(&cluster.name).join("configmap.yaml");
        let text = format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, namespace: default}}}}");
        std::fs::write(&file, text).unwrap();
        let mut command = cluster.kubectl.command();
        command.args([
            "apply",
            "--server-side",
            "--as=system:serviceaccount:culvert-system:culvert-controller",
            "-f",
        ]);
        command.arg(file).output().unwrap().status.success()
    };
    assert!(apply("culvert-ca-root-cert"));
    assert!(!apply("another"));
}

fn nothing_of_ours_is_left(cluster: &ControlPlane) {
    let ours = [
        "clusterroles,clusterrolebindings,namespaces",
        "-l",
        "app.kubernetes.io/part-of=culvert",
    ];
    wait_until("the namespace and the roles to be gone", PATIENCE, || {
        let left = cluster.kubectl.get(&ours);
        left.is_ok_and(|left| left["items"].as_array().is_some_and(Vec::is_empty))
    })
    .unwrap();
}

fn helm_installs_changes_and_removes(cluster: &ControlPlane) {
    let chart = here("helm/culvert");
    cluster.helm(&["install", "culvert", &chart, "--create-namespace"]);
    pods_are_made(cluster);
    let annotation = "/spec/template/metadata/annotations/checksum~1config";
    let checksum = || {
        cluster
            .get("deployment/culvert-controller")
            .pointer(annotation)
            .cloned()
            .unwrap()
    };
    let before = checksum();
    cluster.helm(&[
        "upgrade",
        "culvert",
        &chart,
        "--set",
        "config.meshCidrs={198.19.0.0/16}",
    ]);
    assert_ne!(checksum(), before, "pods would not read the change");
    assert_eq!(
        cluster.get("configmap/culvert-config")["data"]["mesh-cidr"],
        "198.19.0.0/16"
    );
    // No node here could run the hook.
    cluster.helm(&["uninstall", "culvert", "--no-hooks"]);
    cluster.kubectl.run(&["delete", "namespace", "culvert-system"]).unwrap();
    nothing_of_ours_is_left(cluster);
}
