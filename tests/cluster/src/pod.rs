//! What a pod of a test is.

use serde_json::{Value, json};

/// The port on which servers speak HTTP.
pub const HTTP: u16 = 8080;
/// The port on which servers speak first.
pub const GREET: u16 = 8081;
/// The port on which servers answer gRPC's health check.
pub const GRPC: u16 = 8082;

const IMAGE: &str = "culvert.dev/probe:0.1.0";

/// A pod with one container, which runs `probe`.
#[derive(Debug, Clone)]
pub struct PodSpec {
    pub(crate) name: String,
    pub(crate) ready: bool,
    pod: Value,
}

impl PodSpec {
    /// `probe answer` on [`HTTP`], [`GREET`] and [`GRPC`]; ready when it answers.
    pub fn server(name: &str) -> Self {
        let arguments = ["answer", "--http=8080", "--greet=8081", "--grpc=8082"];
        let mut spec = Self::new(name, &arguments);
        spec.ready = true;
        let ports = [("http", HTTP), ("greet", GREET), ("grpc", GRPC)]
            .map(|(name, port)| json!({ "name": name, "containerPort": port }));
        spec.container()["ports"] = json!(ports);
        spec.container()["readinessProbe"] =
            json!({ "httpGet": { "port": HTTP }, "periodSeconds": 1, "timeoutSeconds": 5 });
        spec
    }

    /// A pod that does nothing, in which [`crate::Space::exec`] starts programs.
    pub fn idle(name: &str) -> Self {
        let mut spec = Self::new(name, &[]);
        spec.container()["command"] = json!([
            "/bin/sh",
            "-c",
            "trap exit TERM; while true; do sleep 3600 & wait; done"
        ]);
        spec.ready = true;
        spec
    }

    /// `probe` with these arguments, once.
    pub fn new(name: &str, arguments: &[&str]) -> Self {
        let container = json!({
            "name": "probe",
            "image": IMAGE,
            "imagePullPolicy": "Never",
            "args": arguments,
            "env": [{ "name": "HOSTNAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }],
        });
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name, "labels": { "app": name.get(..63).unwrap_or(name).trim_end_matches(['-', '.']) } },
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 1,
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "containers": [container],
            },
        });
        Self {
            name: name.to_owned(),
            ready: false,
            pod,
        }
    }

    /// On this node, without asking the scheduler.
    #[must_use]
    pub fn on(mut self, node: &str) -> Self {
        self.pod["spec"]["nodeName"] = json!(node);
        self
    }

    /// In the node's network, with the cluster's names.
    #[must_use]
    pub fn in_the_nodes_network(self) -> Self {
        self.spec("hostNetwork", json!(true))
            .spec("dnsPolicy", json!("ClusterFirstWithHostNet"))
    }

    /// Another label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.pod["metadata"]["labels"][key] = json!(value);
        self
    }

    /// Changes a field of `spec`.
    #[must_use]
    pub fn spec(mut self, field: &str, value: Value) -> Self {
        self.pod["spec"][field] = value;
        self
    }

    /// Changes a field of the container.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.container()[field] = value;
        self
    }

    /// The manifest.
    pub fn manifest(&self) -> Value {
        self.pod.clone()
    }

    fn container(&mut self) -> &mut Value {
        &mut self.pod["spec"]["containers"][0]
    }
}
