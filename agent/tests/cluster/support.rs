//! The cluster, and a source that follows one of its nodes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use culvert_agent::{
    cri::Locator,
    source::{
        PodSource as _, PodSpec, Snapshot,
        kubernetes::{self, KubernetesPods},
    },
};
use culvert_cluster::{Cluster, Options};
use serde_json::Value;
use tokio::time::timeout;

pub(crate) const NODE: &str = "node1";

/// How long anything may take that is only waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes down what it brought up.
pub(crate) struct Lab {
    pub cluster: Cluster,
    options: Option<Options>,
}

impl Lab {
    pub(crate) fn up(name: &str) -> Self {
        if let Ok(name) = std::env::var("CULVERT_TEST_CLUSTER") {
            let state = Options::new(&name, 1).expect("options").state;
            let cluster = Cluster::attach(&state, &name).expect("the cluster that CULVERT_TEST_CLUSTER names");
            return Self { cluster, options: None };
        }
        let options = Options::new(name, 1).expect("options");
        let cluster = Cluster::up(&options).expect("a cluster");
        Self {
            cluster,
            options: Some(options),
        }
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl_client().run(arguments).expect("kubectl")
    }

    pub(crate) fn get(&self, arguments: &[&str]) -> Value {
        self.cluster.kubectl_client().get(arguments).expect("kubectl get")
    }

    /// A namespace without any label.
    pub(crate) fn namespace(&self, name: &str) {
        self.cluster
            .kubectl_client()
            .apply(&format!(
                "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}"
            ))
            .expect("namespace");
        // The controller manager makes it; pods are refused before.
        until("service account", || {
            self.cluster
                .kubectl_client()
                .get(&["serviceaccount", "default", "-n", name])
                .ok()
        });
    }

    /// A pod on the node, as the API server has it.
    pub(crate) fn pod(&self, namespace: &str, name: &str, more: &str) -> Value {
        let manifest = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{nodeName: {NODE}, \
             terminationGracePeriodSeconds: 0, {more} containers: [{{name: c, image: 'cluster.local/pause:1', \
             imagePullPolicy: IfNotPresent}}]}}}}"
        );
        self.cluster.kubectl_client().apply(&manifest).expect("pod");
        self.get(&["pod", name, "-n", namespace])
    }

    pub(crate) fn running(&self, namespace: &str, name: &str) -> Value {
        self.kubectl(&[
            "wait",
            "--for=condition=Ready",
            "--timeout=60s",
            "-n",
            namespace,
            &format!("pod/{name}"),
        ]);
        self.get(&["pod", name, "-n", namespace])
    }

    /// The node's files as its own processes see them: as kubelet does, which no test here restarts.
    pub(crate) fn root(&self) -> PathBuf {
        let node = self.cluster.node(NODE).expect("node");
        let kubelet = node.pids_of("kubelet").expect("processes");
        PathBuf::from(format!("/proc/{}/root", kubelet.first().expect("kubelet").pid()))
    }

    pub(crate) async fn source(&self, by_runtime: bool) -> KubernetesPods {
        let root = self.root();
        let sockets = [root.join("run/containerd/containerd.sock")];
        let locator = Locator::new(sockets.into_iter().filter(|_| by_runtime).collect(), root.join("proc"));
        let client = kubernetes::client(Some(self.cluster.kubeconfig()))
            .await
            .expect("client");
        KubernetesPods::follow(NODE, client, locator)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(options) = &self.options {
            let down = Cluster::down(&options.state, &options.name);
            if let Err(error) = down {
                eprintln!("the cluster stays: {error}");
            }
        }
    }
}

/// Waits for a snapshot.
pub(crate) async fn snapshot(
    pods: &mut KubernetesPods,
    what: &str,
    is_it: impl Fn(&Snapshot) -> bool,
) -> Arc<Snapshot> {
    let mut last = None;
    let found = timeout(PATIENCE, async {
        loop {
            let next = pods.next().await.expect("the source lives");
            if is_it(&next) {
                return next;
            }
            last = Some(next);
        }
    });
    match found.await {
        Ok(found) => found,
        Err(_) => panic!("no snapshot with: {what}; the last: {last:?}"),
    }
}

/// That nothing happens for a while, during which something else is known to have happened.
pub(crate) async fn nothing(pods: &mut KubernetesPods, lasting: Duration) {
    if let Ok(snapshot) = timeout(lasting, pods.next()).await {
        panic!("something changed: {snapshot:?}");
    }
}

pub(crate) fn wanted<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a PodSpec> {
    snapshot.wanted.iter().find(|spec| spec.name.name == name)
}

pub(crate) fn inode(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).expect("a namespace").ino()
}

#[allow(
    clippy::disallowed_methods,
    reason = "the pause between two looks at what nothing signals"
)]
pub(crate) fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < end {
        if let Some(found) = probe() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("in vain: {what}")
}
