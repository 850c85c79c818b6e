//! The cluster, and Culvert on it.

use crate::{agent_page, eventually, share, tell_wait, until, within};
use culvert_cluster::{Cluster, Kubectl, Node};
use culvert_deploy::Rollout;
use culvert_lab::Namespace;
use serde_json::Value;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// Culvert's own namespace.
const SYSTEM: &str = "culvert-system";

/// The longest wait for an update of Culvert.
const ROLLOUT: Duration = Duration::from_secs(180);

/// The cluster that the tests share.
#[derive(Debug)]
pub struct World {
    cluster: Cluster,
}

impl World {
    /// The cluster with Culvert installed and ready. Installs it if it is not there.
    pub fn installed() -> Self {
        let world = Self::attach();
        world.install();
        world
    }

    /// The cluster as it is, which is this test's until its process ends.
    pub fn attach() -> Self {
        Self::of(share::cluster(&state()))
    }

    /// A cluster of the caller's own.
    pub fn of(cluster: Cluster) -> Self {
        Self { cluster }
    }

    /// Applies `deploy/daemonset` and waits until everything in it is ready.
    pub fn install(&self) {
        // A removal that was not waited for may still be under way: nothing can be made in a namespace that goes.
        until("the end of an earlier removal", || {
            let namespace = self.get(&["namespaces", "--field-selector=metadata.name=culvert-system"]);
            namespace["items"][0]["metadata"]["deletionTimestamp"].is_null()
        });
        let there = self.kubectl(&[
            "-n",
            SYSTEM,
            "get",
            "daemonset/culvert-node",
            "deployment/culvert-controller",
            "--ignore-not-found",
            "-o",
            "name",
        ]);
        if there.lines().count() < 2 {
            let folder = |name: &str| repository().join("deploy").join(name).display().to_string();
            self.kubectl(&["apply", "--server-side", "-k", &folder("crds")]);
            self.kubectl(&["apply", "-k", &folder("daemonset")]);
        }
        self.wait_ready();
    }

    /// The program `culvert`, told which cluster is meant.
    pub fn culvert(&self) -> Command {
        let mut command = Command::new(built("culvert"));
        command.env("KUBECONFIG", self.cluster.kubeconfig());
        command
    }

    /// Waits until the controllers and every node's agent and proxy are ready in the version that is wanted, and those of older
    /// versions were told to stop. Proxies may go on to drain.
    pub fn wait_ready(&self) {
        self.kubectl(&[
            "-n",
            SYSTEM,
            "rollout",
            "status",
            "deployment/culvert-controller",
            "--timeout=180s",
        ]);
        within(ROLLOUT, "each node to be served by the newest version", || {
            self.rollout().filter(Rollout::is_done)
        });
    }

    /// How far the nodes' pods are; nothing while the cluster has not looked at what is wanted now.
    fn rollout(&self) -> Option<Rollout> {
        let label = "--selector=app.kubernetes.io/name=culvert-node";
        let objects = self.get(&["daemonsets,controllerrevisions,pods", "-n", SYSTEM, label]);
        let of = |kind: &str| -> Vec<Value> {
            let all = objects["items"].as_array().into_iter().flatten();
            all.filter(|one| one["kind"] == kind).cloned().collect()
        };
        Rollout::of(of("DaemonSet").first()?, &of("ControllerRevision"), &of("Pod"))
    }

    /// The cluster: its nodes, and the components that a test ends and starts.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// A node by name, `node1` or `node2`.
    pub fn node(&self, name: &str) -> &Node {
        self.cluster.node(name).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Ready-made uses of `kubectl` that return errors.
    pub fn client(&self) -> Kubectl {
        self.cluster.kubectl_client()
    }

    /// Runs `kubectl`; what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let started = Instant::now();
        let said = self.client().run(arguments).unwrap_or_else(|error| panic!("{error}"));
        tell_wait(&format!("kubectl {}", arguments.join(" ")), started);
        said
    }

    /// Objects as JSON: `["pods", "-n", "x"]`.
    pub fn get(&self, arguments: &[&str]) -> Value {
        self.client().get(arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &Value) {
        let text = manifest.to_string();
        self.client()
            .apply(&text)
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
    }

    /// The control plane's network namespace, from which nodes and pods can be reached.
    pub fn control_plane(&self) -> Namespace {
        Namespace::open(&self.cluster.netns()).unwrap()
    }

    /// GET from a pod or a node, asked from the control plane; nothing if it does not answer.
    pub fn http(&self, address: SocketAddr, path: &str) -> Option<String> {
        let answer = self
            .control_plane()
            .run(|| culvert_lab::get(address, path, Duration::from_secs(10)))
            .unwrap();
        answer
            .ok()
            .filter(|answer| answer.status == 200)
            .map(|answer| answer.body)
    }

    /// Culvert's pods on a node that run, by name, with their address.
    pub fn culvert_pods(&self, node: &str) -> Vec<(String, IpAddr)> {
        let field = format!("--field-selector=spec.nodeName={node},status.phase=Running");
        let label = "--selector=app.kubernetes.io/name=culvert-node";
        let pods = self.get(&["pods", "-n", SYSTEM, &field, label]);
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        pods.iter()
            .filter_map(|pod| {
                let address = pod["status"]["podIP"].as_str()?.parse().ok()?;
                Some((pod["metadata"]["name"].as_str()?.to_owned(), address))
            })
            .collect()
    }

    /// What the agent of a node that is in charge tells of its pods (its page `/pods`); nothing while there is none.
    pub fn agent_page(&self, node: &str) -> Option<Value> {
        self.agent_page_of(node, &mut Vec::new())
    }

    /// As [`agent_page`](Self::agent_page), asked where it was found before, if it still is in charge there: `known` is for the next
    /// call, so that who asks again and again need not ask the API server each time.
    pub(crate) fn agent_page_of(&self, node: &str, known: &mut Vec<(String, IpAddr)>) -> Option<Value> {
        let in_charge = |address: IpAddr| self.page(address).filter(|page| page["standby"].is_null());
        let before = known.iter().find(|(at, _)| at == node).map(|(_, address)| *address);
        if let Some(page) = before.and_then(in_charge) {
            return Some(page);
        }
        known.retain(|(at, _)| at != node);
        let mut now = self.culvert_pods(node).into_iter();
        let (address, page) = now.find_map(|(_, address)| Some((address, in_charge(address)?)))?;
        known.push((node.to_owned(), address));
        Some(page)
    }

    /// The pages `/pods` of all agents of a node, those that stand by included.
    pub fn agent_pages(&self, node: &str) -> Vec<Value> {
        let pods = self.culvert_pods(node);
        pods.iter().filter_map(|(_, address)| self.page(*address)).collect()
    }

    /// The page `/pods` of the agent in the pod with this address.
    pub fn page(&self, agent: IpAddr) -> Option<Value> {
        // It is answered on loopback alone.
        let inside = self.cluster.netns_of("culvert-agent", agent)?;
        let page = SocketAddr::from((Ipv4Addr::LOCALHOST, 15022));
        let answer = inside.run(|| culvert_lab::get(page, "/pods", Duration::from_secs(10)));
        let answer = answer.ok()?.ok().filter(|answer| answer.status == 200)?;
        serde_json::from_str(&answer.body).ok()
    }

    /// How far a pod is on its way into the mesh, as its node's agent tells: `captured`, `outside`, `waiting` and so on.
    pub fn state_of(&self, node: &str, namespace: &str, pod: &str) -> Option<String> {
        agent_page::state_in(&self.agent_page(node)?, namespace, pod)
    }

    /// Waits for an event on an object whose reason and message satisfy `wanted`; its message.
    pub fn wait_event(
        &self,
        namespace: &str,
        object: &str,
        what: &str,
        mut wanted: impl FnMut(&str, &str) -> bool,
    ) -> String {
        eventually(&format!("event on {object}: {what}"), || {
            self.events(namespace, object)
                .into_iter()
                .find(|(reason, message)| wanted(reason, message))
                .map(|(_, message)| message)
        })
    }

    /// Reasons and messages of the events on an object. Events on a namespace itself are in `default`.
    pub fn events(&self, namespace: &str, object: &str) -> Vec<(String, String)> {
        let events = self.get(&["events.events.k8s.io", "-n", namespace]);
        let events = events["items"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        events
            .iter()
            .filter(|event| event["regarding"]["name"] == object)
            .map(|event| (text(&event["reason"]), text(&event["note"])))
            .collect()
    }

    /// Waits until the node's agent is in charge and says so.
    pub fn wait_agent(&self, node: &str) {
        until(&format!("the agent of {node} to answer"), || {
            self.agent_page(node).is_some_and(|page| page["ready"] == true)
        });
    }
}

/// Where the clusters' state is.
fn state() -> PathBuf {
    std::env::var_os("CULVERT_CLUSTER_STATE").map_or_else(
        || {
            let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
            repository().join(target).join("cluster")
        },
        PathBuf::from,
    )
}

/// The repository's root.
pub(crate) fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap().to_path_buf()
}

/// A program of this repository, which is built before the tests.
pub fn built(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let program = this.ancestors().nth(2).unwrap().join(name);
    assert!(
        program.is_file(),
        "{} is not built: `cargo build --package culvert-cli --package culvert-agent`",
        program.display()
    );
    program
}
