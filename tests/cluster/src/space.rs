//! A namespace of a test.

use crate::{HTTP, PodSpec, World, eventually, until};
use serde_json::{Value, json};
use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering},
};

/// The label that says whether pods are in the mesh.
pub(crate) const LABEL: &str = "culvert.dev/mesh";

/// A namespace that goes when the value is dropped, with all that is in it.
#[derive(Debug)]
pub struct Space<'a> {
    world: &'a World,
    name: String,
}

impl World {
    /// A namespace of the test's own, whose name begins with `name`. It is removed when the value is dropped.
    pub fn space(&self, name: &str) -> Space<'_> {
        Space::create(self, name)
    }

    /// As [`space`](Self::space), with just this name, cut to the 63 characters that there may be.
    pub fn space_named(&self, name: &str) -> Space<'_> {
        Space::named(self, name.get(..63).unwrap_or(name).to_owned())
    }
}

impl<'a> Space<'a> {
    fn create(world: &'a World, name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::named(world, format!("t-{name}-{}-{count}", std::process::id()))
    }

    fn named(world: &'a World, name: String) -> Self {
        world.apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }));
        // Pods are refused before the namespace has its service account.
        eventually("the namespace's service account", || {
            world.client().get(&["serviceaccount", "default", "-n", &name]).ok()
        });
        Self { world, name }
    }

    /// The namespace's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes its pods into the mesh.
    pub fn enrol(&self) {
        self.label("ambient");
    }

    /// Takes its pods out of the mesh: the label goes.
    pub fn leave(&self) {
        self.world
            .kubectl(&["label", "namespace", &self.name, &format!("{LABEL}-")]);
    }

    /// Labels the namespace with any value.
    pub fn label(&self, value: &str) {
        let label = format!("{LABEL}={value}");
        self.world
            .kubectl(&["label", "--overwrite", "namespace", &self.name, &label]);
    }

    /// Makes pods, and waits until those that are meant to become ready are.
    pub fn start(&self, pods: &[PodSpec]) {
        self.create_pods(pods);
        let ready = pods.iter().filter(|pod| pod.ready);
        self.wait_ready(&ready.map(|pod| pod.name.as_str()).collect::<Vec<_>>());
    }

    /// Makes pods, and waits for nothing.
    pub fn create_pods(&self, pods: &[PodSpec]) {
        let items: Vec<Value> = pods.iter().map(PodSpec::manifest).collect();
        self.apply_all(items);
    }

    /// Applies an object in this namespace.
    pub fn apply(&self, object: Value) {
        self.apply_all(vec![object]);
    }

    /// Applies objects in this namespace.
    pub fn apply_all(&self, mut objects: Vec<Value>) {
        for object in &mut objects {
            object["metadata"]["namespace"] = json!(self.name);
        }
        self.world
            .apply(&json!({ "apiVersion": "v1", "kind": "List", "items": objects }));
    }

    /// Waits until these pods are there and ready.
    pub fn wait_ready(&self, pods: &[&str]) {
        let is_ready = |pod: &Value| {
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions
                .iter()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        };
        // All at once: a look through `kubectl` takes its time on a small machine.
        until(&format!("pods {pods:?} to be ready"), || {
            let all = self.get(&["pods"])["items"].as_array().cloned().unwrap_or_default();
            pods.iter().all(|name| {
                let mut found = all.iter().filter(|pod| pod["metadata"]["name"] == *name);
                found.next().is_some_and(is_ready)
            })
        });
    }

    /// Runs `kubectl` for this namespace; what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.world.kubectl(&[&["-n", &self.name], arguments].concat())
    }

    /// An object, or a list, of this namespace.
    pub fn get(&self, arguments: &[&str]) -> Value {
        self.world.get(&[arguments, &["-n", &self.name]].concat())
    }

    /// A pod's address, as soon as it has one.
    pub fn ip(&self, pod: &str) -> IpAddr {
        eventually(&format!("address of pod {pod}"), || {
            self.get(&["pod", pod])["status"]["podIP"].as_str()?.parse().ok()
        })
    }

    /// Where a server in a pod speaks HTTP.
    pub fn address(&self, pod: &str) -> String {
        SocketAddr::new(self.ip(pod), HTTP).to_string()
    }

    /// The node that a pod is on.
    pub fn node_of(&self, pod: &str) -> String {
        eventually(&format!("node of pod {pod}"), || {
            Some(self.get(&["pod", pod])["spec"]["nodeName"].as_str()?.to_owned())
        })
    }

    /// Waits until the nodes' agents say that these pods are captured.
    pub fn wait_captured(&self, pods: &[&str]) {
        self.wait_state(pods, "captured");
    }

    /// Waits until the nodes' agents say that these pods are outside the mesh.
    pub fn wait_outside(&self, pods: &[&str]) {
        self.wait_state(pods, "outside");
    }

    fn wait_state(&self, pods: &[&str], state: &str) {
        let mut waiting: Vec<(String, &str)> = pods.iter().map(|pod| (self.node_of(pod), *pod)).collect();
        let mut agents = Vec::new();
        until(&format!("pods {pods:?} to be {state}"), || {
            for node in self.world.cluster().nodes() {
                let here = waiting.iter().any(|(at, _)| at == node.name());
                let page = here
                    .then(|| self.world.agent_page_of(node.name(), &mut agents))
                    .flatten();
                if let Some(page) = page {
                    waiting.retain(|(at, pod)| {
                        at != node.name()
                            || crate::agent_page::state_in(&page, &self.name, pod).as_deref() != Some(state)
                    });
                }
            }
            waiting.is_empty()
        });
    }

    /// `probe ask` in a pod: the reports, whether they are good or not.
    pub fn ask(&self, pod: &str, arguments: &[&str]) -> Vec<Value> {
        let command = ["exec", pod, "-n", &self.name, "--", "/probe", "ask"];
        let output = self.world.cluster().kubectl().args(command).args(arguments).output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let first = text.lines().next().unwrap_or_default();
        match serde_json::from_str(first) {
            Ok(Value::Array(reports)) => reports,
            _ => panic!("probe said {text:?} {}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// Asks and demands a good answer; the report.
    pub fn ask_well(&self, pod: &str, to: &str) -> Value {
        let report = self.ask(pod, &["--to", to]).remove(0);
        assert_eq!(report["ok"], true, "{pod} asked {to}: {report}");
        report
    }

    /// Which cluster this is in.
    pub fn world(&self) -> &'a World {
        self.world
    }
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        let client = self.world.client();
        if std::thread::panicking() {
            let show = |arguments: &[&str]| {
                let text = client.run(arguments).unwrap_or_else(|error| error.to_string());
                eprintln!("# kubectl {}\n{text}", arguments.join(" "));
            };
            show(&["-n", &self.name, "get", "pods", "-o", "wide"]);
            show(&["-n", &self.name, "get", "events", "--sort-by=.lastTimestamp"]);
            show(&["-n", "culvert-system", "get", "pods", "-o", "wide"]);
        }
        let _ = client.run(&["delete", "namespace", &self.name, "--wait=false", "--ignore-not-found"]);
    }
}
