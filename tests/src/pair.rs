//! Two pods that serve the same, one beside the waypoint and one far from it, and Services in front of them.

use crate::{
    app::{self, Seen},
    http::{Head, ask},
    patience::PATIENCE,
    scene::service,
    town::{PORT, Town},
    waypoint::{Kind, Waypoint},
};
use culvert_lab::{Lab, PodSpec, wait_until};
use serde_json::{Value, json};
use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

/// How long an answer may take that comes.
const ATTEMPT: Duration = Duration::from_secs(10);
/// The port of the applications.
const APP: u16 = PORT + 5;

/// A town with a waypoint `wp` on node 2, the pod `near` there, and `far` on node 1. Their applications are called as they are.
pub struct Pair<'lab> {
    /// Its client asks.
    pub town: Town<'lab>,
    /// The waypoint.
    pub waypoint: Waypoint,
    /// What the applications have seen.
    pub seen: Seen,
}

impl<'lab> Pair<'lab> {
    /// Makes it, and starts the waypoint.
    pub fn make(lab: &'lab Lab, kind: Kind) -> Self {
        let town = Town::meshed(lab);
        let seen = Seen::default();
        for (name, node) in [("near", 2), ("far", 1)] {
            Self::add(&town, &seen, name, node);
        }
        let waypoint = Waypoint::start(lab, &town.mesh, "town", "wp", kind);
        Self { town, waypoint, seen }
    }

    /// Another pod that serves the same.
    pub fn join(&self, name: &str, node: u8) {
        Self::add(&self.town, &self.seen, name, node);
    }

    fn add(town: &Town<'_>, seen: &Seen, name: &str, node: u8) {
        let spec = PodSpec::new("town", name).on(node).label("app", "pair");
        let pod = town.lab.pod(spec.label("version", name)).unwrap();
        app::serve(&pod, APP, name, seen);
        town.mesh.wait_enrolled(&[&pod], true, PATIENCE).unwrap();
    }

    /// A Service in front of all of them, with fields of its own and what is asked for connections to it.
    pub fn service(&self, name: &str, fields: &Value, policy: Option<Value>) -> SocketAddr {
        let made = service(name, "pair", APP, "http").label("culvert.dev/use-waypoint", "wp");
        let mut to = self.town.lab.service(made).unwrap().ip4().to_string();
        if let Some(fields) = fields.as_object().filter(|fields| !fields.is_empty()) {
            let mut object = json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": { "name": name, "namespace": "town", "labels": { "culvert.dev/use-waypoint": "wp" } },
                "spec": {
                    "clusterIP": to, "clusterIPs": [to], "selector": { "app": "pair" },
                    "ports": [{ "name": "http", "port": 80, "targetPort": APP, "protocol": "TCP", "appProtocol": "http" }],
                },
            });
            let spec = object["spec"].as_object_mut().unwrap();
            spec.extend(fields.clone());
            self.town.lab.apply(&object).unwrap();
        }
        if let Some(policy) = policy {
            self.rule(name, &policy);
        }
        to.push_str(":80");
        to.parse().unwrap()
    }

    /// What holds for connections to a Service.
    pub fn rule(&self, host: &str, policy: &Value) {
        let spec = json!({ "host": host, "trafficPolicy": policy });
        self.apply("networking.istio.io/v1", "DestinationRule", host, &spec);
    }

    /// An object in the town.
    pub fn apply(&self, version: &str, kind: &str, name: &str, spec: &Value) {
        let metadata = json!({ "name": name, "namespace": "town" });
        let object = json!({ "apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec });
        self.town.lab.apply(&object).unwrap();
    }

    /// Says where a node is.
    pub fn locate(&self, number: u8, region: &str, zone: &str) {
        let node = self.town.lab.node(number);
        let labels = json!({
            "kubernetes.io/hostname": node.name(),
            "topology.kubernetes.io/region": region, "topology.kubernetes.io/zone": zone,
        });
        let object = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": node.name(), "labels": labels },
            "spec": { "podCIDRs": [format!("198.18.{number}.0/24"), format!("fd00:c01e:{number}::/64")] },
            "status": { "addresses": [
                { "type": "InternalIP", "address": node.ip4().to_string() },
                { "type": "InternalIP", "address": node.ip6().to_string() },
                { "type": "Hostname", "address": node.name() },
            ] },
        });
        self.town.lab.apply(&object).unwrap();
    }

    /// The answer to a request with these headers.
    pub fn ask(&self, to: SocketAddr, headers: &[(&str, &str)], patience: Duration) -> Option<(Head, String)> {
        let mut lines = vec!["GET / HTTP/1.1".to_owned(), "host: x.town".to_owned()];
        lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
        ask(&self.town.client, to, &lines, patience).ok()
    }

    /// Which application answers.
    pub fn app(&self, to: SocketAddr, headers: &[(&str, &str)]) -> Option<String> {
        let (head, _) = self.ask(to, headers, ATTEMPT)?;
        (head.status() == Some(200)).then(|| head.get("x-app").unwrap_or_default().to_owned())
    }

    /// Those that answer any of `times` requests; none where one was not answered.
    pub fn apps(&self, to: SocketAddr, times: usize) -> BTreeSet<String> {
        let answers: Option<BTreeSet<String>> = (0..times).map(|_| self.app(to, &[])).collect();
        answers.unwrap_or_default()
    }

    /// How many of `times` requests an application answers.
    pub fn share(&self, to: SocketAddr, app: &str, times: usize) -> usize {
        let answers = (0..times).filter(|_| self.app(to, &[]).as_deref() == Some(app));
        answers.count()
    }

    /// Waits until something holds.
    #[track_caller]
    pub fn wait(&self, what: &str, condition: impl FnMut() -> bool) {
        wait_until(what, PATIENCE, condition).unwrap_or_else(|error| {
            let log = self.waypoint.process.log_tail(40);
            panic!("{error:#}\n{log}\n{}", self.town.lab.logs(20))
        });
    }
}

/// A set of names.
pub fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
