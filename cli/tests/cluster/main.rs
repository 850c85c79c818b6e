//! `culvert` against a real API server: a control plane of its own, without nodes, so that nothing that is installed runs.
//!
//! Ignored unless asked for (`--run-ignored all`, or `cargo test -- --ignored`): needs root, and the programs of
//! `cargo xtask cluster`.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod monitoring;

use culvert_cluster::{Cluster, Options};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A control plane, taken down at the end also when a test fails.
struct ControlPlane {
    cluster: Cluster,
    state: PathBuf,
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Err(error) = Cluster::down(&self.state, self.cluster.name()) {
            eprintln!("the cluster was not taken down: {error}");
        }
    }
}

impl ControlPlane {
    fn up(name: &str) -> Self {
        let options = Options::new(name, 0).unwrap();
        let state = options.state.clone();
        let cluster = Cluster::up(&options).unwrap();
        Self { cluster, state }
    }

    fn culvert(&self, arguments: &[&str]) -> Output {
        culvert(self.cluster.kubeconfig(), arguments)
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.cluster.kubectl().args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", errors(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Names of our objects that belong to the whole cluster.
    fn cluster_wide(&self) -> String {
        self.kubectl(&[
            "get",
            "clusterroles,clusterrolebindings",
            "-l",
            "app.kubernetes.io/part-of=culvert",
            "-o",
            "name",
        ])
    }
}

fn culvert(kubeconfig: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_culvert"))
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .output()
        .unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", errors(output)))
}

fn changes(output: &Output, change: &str) -> usize {
    assert!(output.status.success(), "{}", errors(output));
    let answer = json(output);
    let objects = answer["objects"].as_array().unwrap();
    objects.iter().filter(|object| object["change"] == change).count()
}

#[test]
#[ignore = "brings up a cluster: `cargo xtask test --cluster` runs it"]
fn an_installation_from_nothing_to_nothing() {
    let plane = ControlPlane::up("cli");
    before_installing_questions_say_what_to_do(&plane);
    someone_without_rights_is_told_which_are_missing(&plane);
    installing_makes_everything_and_again_changes_nothing(&plane);
    installing_brings_our_own_kind_up_to_date_and_leaves_others(&plane);
    an_upgrade_keeps_what_was_set_and_a_trust_domain_changes_only_by_force(&plane);
    what_is_no_longer_wanted_is_removed_and_changed_configuration_restarts(&plane);
    what_cannot_start_is_told_with_the_reason(&plane);
    monitoring::what_watches_the_mesh_comes_where_it_is_asked_for_and_is_kept_and_removed(&plane);
    uninstalling_leaves_nothing(&plane);
}

fn before_installing_questions_say_what_to_do(plane: &ControlPlane) {
    let status = plane.culvert(&["status"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(errors(&status).contains("not installed"), "{}", errors(&status));
    let check = plane.culvert(&["check", "--before", "-o", "json"]);
    assert!(check.status.success(), "{}", errors(&check));
    assert_eq!(
        json(&check)["status"],
        "warn",
        "a cluster without nodes is worth a warning"
    );
}

fn someone_without_rights_is_told_which_are_missing(plane: &ControlPlane) {
    plane.kubectl(&["create", "serviceaccount", "nobody", "-n", "default"]);
    let token = plane.kubectl(&["create", "token", "nobody", "-n", "default"]);
    let mut file: serde_json::Value = {
        let text = plane.kubectl(&["config", "view", "--raw", "--minify", "-o", "json"]);
        serde_json::from_str(&text).unwrap()
    };
    file["users"][0]["user"] = serde_json::json!({ "token": token.trim() });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, file.to_string()).unwrap();

    let check = culvert(&path, &["check", "--before", "-o", "json"]);
    assert_eq!(check.status.code(), Some(1));
    let answer = json(&check);
    let lines = answer["lines"].as_array().unwrap();
    let missing = "missing: create, patch, delete daemonsets.apps in culvert-system";
    assert!(
        lines
            .iter()
            .any(|line| line["found"] == missing && line["remedy"].is_string()),
        "{answer:#}"
    );
    let install = culvert(&path, &["install", "--no-wait"]);
    assert_eq!(install.status.code(), Some(1));
    assert!(
        !plane
            .kubectl(&["get", "namespaces", "-o", "name"])
            .contains("culvert-system")
    );
    let status = culvert(&path, &["status"]);
    assert!(errors(&status).contains("cannot list resource"), "{}", errors(&status));
}

/// An API server drops the fields that the definition of a kind does not name. Of other definitions nothing is touched.
fn installing_brings_our_own_kind_up_to_date_and_leaves_others(plane: &ControlPlane) {
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    // They name the field that goes.
    let rules = serde_json::json!([{ "op": "remove", "path": format!("{spec}/x-kubernetes-validations") }]).to_string();
    plane.kubectl(&["patch", "crd/trafficpolicies.culvert.dev", "--type=json", "-p", &rules]);
    let ours = ["crd/trafficpolicies.culvert.dev", "timeouts"];
    let theirs = ["crd/peerauthentications.security.istio.io", "mtls"];
    let names = |kind: &str| {
        let read = "jsonpath={.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties}";
        serde_json::from_str::<Value>(&plane.kubectl(&["get", kind, "-o", read])).unwrap()
    };
    for [kind, field] in [ours, theirs] {
        let patch = serde_json::json!([{ "op": "remove", "path": format!("{spec}/properties/{field}") }]).to_string();
        plane.kubectl(&["patch", kind, "--type=json", "-p", &patch]);
        assert!(names(kind)[field].is_null());
    }
    let again = plane.culvert(&["install", "--no-wait", "-o", "json"]);
    assert_eq!(
        (changes(&again, "created"), changes(&again, "changed")),
        (0, 1),
        "{}",
        errors(&again)
    );
    assert!(names(ours[0])[ours[1]].is_object());
    assert!(names(theirs[0])[theirs[1]].is_null());
}

fn installing_makes_everything_and_again_changes_nothing(plane: &ControlPlane) {
    let printed = json(&plane.culvert(&["install", "--print", "-o", "json"]));
    let count = printed["items"].as_array().unwrap().len();
    let first = plane.culvert(&["install", "--no-wait", "-o", "json"]);
    // The kinds of policies, which are nobody's to print for others.
    let kinds = culvert_deploy::crds().unwrap().len();
    assert_eq!(changes(&first, "created"), count + kinds);
    let again = plane.culvert(&["install", "--no-wait", "-o", "json"]);
    // Our own kind among them; others, where they are there, stay as they are.
    assert_eq!(changes(&again, "unchanged"), count + 1);
    let ranges = plane.kubectl(&[
        "get",
        "-n",
        "culvert-system",
        "configmap",
        "culvert-config",
        "-o",
        "jsonpath={.data.mesh-cidr}",
    ]);
    assert_eq!(
        ranges, "198.18.64.0/18",
        "the services' range is found; without nodes there is no other"
    );
}

fn an_upgrade_keeps_what_was_set_and_a_trust_domain_changes_only_by_force(plane: &ControlPlane) {
    let configuration = || -> Value {
        let path = "jsonpath={.data}";
        let text = plane.kubectl(&["get", "-n", "culvert-system", "configmap", "culvert-config", "-o", path]);
        serde_json::from_str(&text).unwrap()
    };
    let set = [
        "install",
        "--no-wait",
        "--exclude-cidr=203.0.113.0/24",
        "--mesh-cidr=198.18.0.0/15",
        "--cluster-id=east",
        "--set=connect-timeout=20s",
        "--network-policy",
        "--replicas=3",
    ];
    let set = plane.culvert(&set);
    assert!(set.status.success(), "{}", errors(&set));
    assert_eq!(configuration()["connect-timeout"], "20s");
    set_by_kubectl(plane, "leaf-ttl", "2h");
    let before = configuration();
    let upgrade = plane.culvert(&["install", "--no-wait", "--image-tag=9.9.9"]);
    assert!(upgrade.status.success(), "{}", errors(&upgrade));
    assert_eq!(configuration(), before);
    assert!(
        errors(&upgrade).contains("kept from what is installed: "),
        "{}",
        errors(&upgrade)
    );
    let policies = plane.kubectl(&["get", "-n", "culvert-system", "networkpolicies", "-o", "name"]);
    assert!(policies.contains("culvert-controller"), "{policies}");
    let deployment = "jsonpath={.spec.replicas} {.spec.template.spec.containers[0].image}";
    let deployment = plane.kubectl(&[
        "get",
        "-n",
        "culvert-system",
        "deployment",
        "culvert-controller",
        "-o",
        deployment,
    ]);
    assert_eq!(deployment, "3 culvert.dev/controller:9.9.9");

    let changed = plane.culvert(&["install", "--no-wait", "--trust-domain=corp"]);
    assert_eq!(changed.status.code(), Some(1));
    assert!(
        errors(&changed).contains("from cluster.local to corp"),
        "{}",
        errors(&changed)
    );
    assert_eq!(configuration(), before);

    set_by_kubectl(plane, "connection-wait", "soon");
    let refused = plane.culvert(&["install", "--no-wait", "--image-tag=9.9.10"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = errors(&refused);
    assert!(
        said.contains("connection-wait: `soon`") && said.contains("--set connection-wait="),
        "{said}"
    );
    assert!(
        !plane
            .kubectl(&[
                "get",
                "-n",
                "culvert-system",
                "pods,deployments,daemonsets",
                "-o",
                "yaml"
            ])
            .contains("9.9.10")
    );
    let misspelt = plane.culvert(&["install", "--set=conect-timeout=20s"]);
    assert_eq!(misspelt.status.code(), Some(2));

    let unset = plane.culvert(&[
        "install",
        "--no-wait",
        "--set=connection-wait=",
        "--set=connect-timeout=",
    ]);
    assert!(unset.status.success(), "{}", errors(&unset));
    assert!(configuration()["connection-wait"].is_null() && configuration()["connect-timeout"].is_null());
    assert_eq!(configuration()["leaf-ttl"], "2h");

    let reset = plane.culvert(&["install", "--no-wait", "--reset"]);
    assert!(reset.status.success(), "{}", errors(&reset));
    assert!(configuration()["leaf-ttl"].is_null(), "also what came there by kubectl");
    assert_eq!(configuration()["cluster-id"], "Kubernetes");
    assert!(configuration()["exclude-cidr"].is_null());
}

fn set_by_kubectl(plane: &ControlPlane, key: &str, value: &str) {
    let patch = serde_json::json!({ "data": { key: value } }).to_string();
    plane.kubectl(&[
        "patch",
        "-n",
        "culvert-system",
        "configmap",
        "culvert-config",
        "--type=merge",
        "-p",
        &patch,
    ]);
}

fn what_is_no_longer_wanted_is_removed_and_changed_configuration_restarts(plane: &ControlPlane) {
    let annotation = || {
        let path = "jsonpath={.spec.template.metadata.annotations.culvert\\.dev/configuration}";
        plane.kubectl(&[
            "get",
            "-n",
            "culvert-system",
            "deployment",
            "culvert-controller",
            "-o",
            path,
        ])
    };
    let before = annotation();
    let more = plane.culvert(&[
        "install",
        "--no-wait",
        "-o",
        "json",
        "--network-policy",
        "--trust-domain=corp",
        "--force",
    ]);
    assert_eq!(changes(&more, "created"), 1);
    assert_ne!(
        annotation(),
        before,
        "the programs read their configuration when they start"
    );
    let less = plane.culvert(&["install", "--no-wait", "-o", "json", "--network-policy=false"]);
    assert_eq!(
        json(&less)["removed"],
        serde_json::json!(["NetworkPolicy culvert-controller"])
    );
}

fn what_cannot_start_is_told_with_the_reason(plane: &ControlPlane) {
    let waited = plane.culvert(&["install", "--timeout", "2s"]);
    assert_eq!(waited.status.code(), Some(1));
    assert!(errors(&waited).contains("no nodes available"), "{}", errors(&waited));
    let check = plane.culvert(&["check", "-o", "json"]);
    assert_eq!(check.status.code(), Some(1));
    let answer = json(&check);
    let lines = answer["lines"].as_array().unwrap();
    let controller = lines.iter().find(|line| line["what"] == "controller").unwrap();
    assert_eq!(controller["level"], "fail");
    assert!(
        lines
            .iter()
            .all(|line| line["level"] == "ok" || line["remedy"].is_string()),
        "{answer:#}"
    );
    let status = plane.culvert(&["status", "-o", "json"]);
    assert_eq!(status.status.code(), Some(1));
    // Two, and what the change of configuration has started beside them.
    assert!(json(&status)["controllers"].as_array().unwrap().len() >= 2);
}

fn uninstalling_leaves_nothing(plane: &ControlPlane) {
    plane.kubectl(&["create", "namespace", "shop"]);
    plane.kubectl(&["label", "namespace", "shop", "culvert.dev/mesh=ambient"]);
    plane.kubectl(&["create", "configmap", "culvert-ca-root-cert", "-n", "shop"]);
    plane.kubectl(&[
        "label",
        "configmap",
        "culvert-ca-root-cert",
        "-n",
        "shop",
        "culvert.dev/managed-by=culvert-controller",
    ]);
    let unasked = plane.culvert(&["uninstall"]);
    assert_eq!(unasked.status.code(), Some(1), "nobody said yes");
    let removed = plane.culvert(&["uninstall", "--yes"]);
    assert!(removed.status.success(), "{}", errors(&removed));
    assert_eq!(plane.cluster_wide(), "");
    assert!(
        !plane
            .kubectl(&["get", "namespaces", "-o", "name"])
            .contains("culvert-system")
    );
    assert!(
        !plane
            .kubectl(&["get", "configmaps", "-n", "shop", "-o", "name"])
            .contains("culvert")
    );
    let labels = plane.kubectl(&["get", "namespace", "shop", "-o", "jsonpath={.metadata.labels}"]);
    assert!(
        labels.contains("ambient"),
        "labels stay unless --remove-labels: {labels}"
    );
    let again = plane.culvert(&["uninstall", "--yes"]);
    assert!(again.status.success(), "{}", errors(&again));
}
