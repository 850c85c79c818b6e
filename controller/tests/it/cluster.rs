//! The same recordings, with a real API server as the source.
//!
//! Needs a cluster (a control plane is enough), whose name `CULVERT_TEST_CLUSTER` tells, or else brings one up, which
//! needs root: `cargo test -p culvert-controller --test it -- --ignored cluster::`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert_cluster::{Cluster, Options, wait_until};
use culvert_controller::model::{Model, Settings};
use culvert_objects::Loaded;
use serde_json::{Value, json};

use crate::cases;
use crate::process::PATIENCE;

/// A cluster, taken down at the end if it was brought up here.
pub(crate) struct Up {
    pub(crate) cluster: Cluster,
    own: Option<(std::path::PathBuf, String)>,
}

impl Up {
    pub(crate) fn new() -> Self {
        // Tests that run at the same time have one each.
        let options = Options::new(&format!("control-{}", std::process::id()), 0).unwrap();
        if let Ok(name) = std::env::var("CULVERT_TEST_CLUSTER") {
            let cluster = Cluster::attach(&options.state, &name).unwrap();
            return Self { cluster, own: None };
        }
        let cluster = Cluster::up(&options).unwrap();
        let own = Some((options.state, options.name));
        Self { cluster, own }
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl_client().run(arguments).unwrap()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if let Some((state, name)) = &self.own {
            Cluster::down(state, name).unwrap();
        }
    }
}

/// Kinds that every cluster has, and entries, whose kinds are ours to bring.
const KINDS: [&str; 8] = [
    "Namespace",
    "Node",
    "ServiceAccount",
    "Pod",
    "Service",
    "EndpointSlice",
    "ServiceEntry",
    "WorkloadEntry",
];

/// What a cluster of one family and other ranges can hold of a document, or nothing.
fn fitting(mut document: Value) -> Option<Value> {
    if !KINDS.contains(&document["kind"].as_str()?) {
        return None;
    }
    // A garbage collector that knew the owners' kind would remove pods whose owners are not there.
    for owner in document["metadata"]["ownerReferences"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        owner["apiVersion"] = json!("golden.culvert.dev/v1");
    }
    if document["kind"] == "Pod" {
        // Admission would have to be told of tokens that nobody mounts.
        document["spec"]["automountServiceAccountToken"] = json!(false);
    }
    let text = serde_json::to_string(&document)
        .unwrap()
        .replace("\"10.96.1.", "\"198.18.66.");
    Some(serde_json::from_str(&text).unwrap())
}

fn documents(path: &Path) -> Vec<Value> {
    all_documents(path).into_iter().filter_map(fitting).collect()
}

fn all_documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let documents = text
        .split("\n---\n")
        .map(|text| serde_yaml_ng::from_str::<Value>(text).unwrap());
    documents.collect()
}

/// Whether a case is about nothing but these kinds. Policies of a real API server are in `tests/cluster`.
fn is_plain(case: &Path) -> bool {
    let documents = all_documents(&case.join("input.yaml"));
    documents
        .iter()
        .all(|document| KINDS.contains(&document["kind"].as_str().unwrap_or_default()))
}

/// Writes objects as a user would, and their status as a controller or kubelet would.
fn write(up: &Up, documents: &[Value]) {
    let apply = |items: Vec<Value>| {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
        let applied = (!items.is_empty()).then(|| up.cluster.kubectl_client().apply(&list));
        applied.transpose().unwrap()
    };
    let is_namespace = |d: &Value| d["kind"] == "Namespace";
    let (namespaces, then): (Vec<&Value>, Vec<&Value>) = documents.iter().partition(|d| is_namespace(d));
    let namespaces: Vec<Value> = namespaces.into_iter().cloned().collect();
    apply(namespaces.clone());
    // Pods are admitted once their account is there, which the account controller makes a moment after the namespace.
    for namespace in &namespaces {
        let name = namespace["metadata"]["name"].as_str().unwrap();
        let account = ["serviceaccount", "default", "-n", name];
        wait_until("the default account", PATIENCE, || {
            up.cluster.kubectl_client().get(&account).is_ok()
        })
        .unwrap();
    }
    let is_account = |d: &&Value| d["kind"] == "ServiceAccount";
    let (accounts, then): (Vec<&Value>, Vec<&Value>) = then.into_iter().partition(is_account);
    apply(accounts.into_iter().cloned().collect());
    let bodies = then.iter().map(|d| {
        let mut body = (*d).clone();
        body.as_object_mut().unwrap().remove("status");
        body["metadata"].as_object_mut().unwrap().remove("deletionTimestamp");
        body
    });
    apply(bodies.collect());
    let dir = tempfile::TempDir::new().unwrap();
    for document in then.iter().filter(|d| d["kind"] == "Pod" && !d["status"].is_null()) {
        let name = document["metadata"]["name"].as_str().unwrap();
        let namespace = document["metadata"]["namespace"].as_str().unwrap();
        let file = dir.path().join("status.json");
        std::fs::write(&file, json!({"status": document["status"]}).to_string()).unwrap();
        let patch = format!("--patch-file={}", file.display());
        up.kubectl(&[
            "patch",
            "pod",
            name,
            "-n",
            namespace,
            "--subresource=status",
            "--type=merge",
            &patch,
        ]);
        if !document["metadata"]["deletionTimestamp"].is_null() {
            up.kubectl(&[
                "delete",
                "pod",
                name,
                "-n",
                namespace,
                "--grace-period=3600",
                "--wait=false",
            ]);
        }
    }
}

fn rendered(loaded: &Loaded) -> BTreeMap<String, Value> {
    let mut model = Model::new(Settings::default());
    model.update(&loaded.objects, Instant::now());
    let addresses = model.addresses().into_iter();
    let text = |v: Value| v.to_string().replace("\"198.18.66.", "\"10.96.1.");
    addresses
        .map(|(name, a)| (name, serde_json::from_str(&text(cases::render(&a))).unwrap()))
        .collect()
}

#[tokio::test]
#[ignore = "brings up a cluster: `cargo xtask test --cluster` runs it"]
async fn an_api_server_gives_the_same_as_a_directory() {
    let up = Up::new();
    let cases: Vec<_> = cases::cases()
        .into_iter()
        // Of both families; this cluster has one.
        .filter(|case| up.cluster.dual_stack() || !case.ends_with("09-dual-stack"))
        .filter(|case| is_plain(case))
        .collect();
    assert!(cases.len() >= 15, "{cases:?}");
    up.kubectl(&[
        "apply",
        "--server-side",
        "-k",
        concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crds"),
    ]);
    up.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
    let mut objects = culvert_controller::source::follow(up.cluster.kubeconfig())
        .await
        .unwrap();
    write(&up, &documents(&cases::golden().join("base.yaml")));
    for case in cases {
        let written = documents(&case.join("input.yaml"));
        write(&up, &written);
        let namespaces: Vec<String> = written
            .iter()
            .filter(|d| d["kind"] == "Namespace")
            .map(|d| d["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();
        let of_case = |name: &String| {
            namespaces
                .iter()
                .any(|n| name.contains(&format!("/{n}/")) || name.starts_with(&format!("{n}/")))
        };
        let begin = Instant::now();
        loop {
            let loaded: Arc<Loaded> = Arc::clone(&objects.borrow_and_update());
            let ours: BTreeMap<_, _> = rendered(&loaded)
                .into_iter()
                .filter(|(name, _)| of_case(name))
                .collect();
            let differences = cases::differences(&case, &ours);
            if differences.is_empty() {
                break;
            }
            assert!(begin.elapsed() < PATIENCE, "{}: {differences:#?}", case.display());
            let _ = tokio::time::timeout(PATIENCE, objects.changed()).await;
        }
        // Two cases have theirs in one namespace.
        up.kubectl(&["delete", "serviceentries,workloadentries", "--all", "--all-namespaces"]);
    }
}

/// Whether everything is still there.
fn holds_all(now: &Loaded, before: &Loaded) -> bool {
    let (now, before) = (&now.objects, &before.objects);
    before.namespaces.keys().all(|name| now.namespaces.contains_key(name))
        && before.nodes.keys().all(|name| now.nodes.contains_key(name))
        && before.services.keys().all(|name| now.services.contains_key(name))
        && before.pods.keys().all(|name| now.pods.contains_key(name))
        && before
            .service_accounts
            .keys()
            .all(|name| now.service_accounts.contains_key(name))
}

pub(crate) async fn until(
    objects: &mut tokio::sync::watch::Receiver<Arc<Loaded>>,
    what: impl Fn(&Loaded) -> bool,
) -> Arc<Loaded> {
    let found = tokio::time::timeout(PATIENCE, objects.wait_for(|loaded| what(loaded))).await;
    Arc::clone(&found.expect("it does not come").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "brings up a cluster: `cargo xtask test --cluster` runs it"]
async fn an_api_server_that_was_away_changes_nothing_that_did_not_change() {
    let up = Up::new();
    let mut objects = culvert_controller::source::follow(up.cluster.kubeconfig())
        .await
        .unwrap();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stays", "namespace": "away"},
        "spec": {"nodeName": "nowhere", "containers": [{"name": "app", "image": "app"}]},
        "status": {"podIP": "198.19.9.9", "podIPs": [{"ip": "198.19.9.9"}], "phase": "Running"}});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "away"}});
    write(&up, &[namespace, pod]);
    let held = |loaded: &Loaded| loaded.objects.pod("away", "stays").cloned();
    let has_address =
        |loaded: &Loaded| held(loaded).is_some_and(|pod| !culvert_objects::pod_addresses(&pod).is_empty());
    let before = until(&mut objects, has_address).await;
    up.cluster.stop_api_server().unwrap();
    // What it told before it went may still be on its way; it takes nothing with it. Longer than a watch takes to notice,
    // and than several attempts to list again.
    let gone = tokio::time::timeout(
        Duration::from_secs(3),
        objects.wait_for(|loaded| !holds_all(loaded, &before)),
    );
    assert!(gone.await.is_err(), "what is away takes nothing with it");
    up.cluster.start_api_server().unwrap();
    // A change of what nobody reads, and one that counts.
    up.kubectl(&[
        "annotate",
        "pod",
        "stays",
        "-n",
        "away",
        "golden.culvert.dev/unread=yes",
    ]);
    up.kubectl(&["create", "namespace", "back"]);
    let after = until(&mut objects, |loaded| loaded.objects.namespace("back").is_some()).await;
    let (was, is) = (held(&before).unwrap(), held(&after).unwrap());
    assert!(Arc::ptr_eq(&was, &is), "the pod did not change in what counts");
    for name in ["away", "back"] {
        up.kubectl(&["delete", "namespace", name, "--wait=false"]);
    }
}
