//! A town whose Service is behind a waypoint, and policies for it.

use std::{net::SocketAddr, time::Duration};

use culvert_lab::{Lab, Pod, ServiceSpec, wait_until};
use culvert_tests::{
    PATIENCE, Town,
    authorizer::{self, Asked},
    http::{self, Head},
    town::PORT,
    waypoint::{Kind, Waypoint},
};
use serde_json::{Value, json};

pub(crate) const WEB: u16 = PORT + 1;
pub(crate) const ATTEMPT: Duration = Duration::from_secs(5);

pub(crate) fn port(name: &str, port: u16, target: u16) -> Value {
    json!({"name": name, "port": port, "targetPort": target, "protocol": "TCP"})
}

/// A policy of namespace `town`.
pub(crate) fn policy(name: &str, target: &Value, spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "culvert.dev/v1alpha1", "kind": "TrafficPolicy",
        "metadata": {"name": name, "namespace": "town"}, "spec": spec,
    });
    object["spec"]["targetRefs"] = json!([target]);
    object
}

pub(crate) fn service(name: &str) -> Value {
    json!({"group": "", "kind": "Service", "name": name})
}

pub(crate) fn route(name: &str, rule: Option<&str>) -> Value {
    let mut target = json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": name});
    if let Some(rule) = rule {
        target["sectionName"] = rule.into();
    }
    target
}

/// A town whose Service `web` is behind a waypoint.
pub(crate) struct Scene<'lab> {
    pub(crate) lab: &'lab Lab,
    pub(crate) town: Town<'lab>,
    pub(crate) waypoint: Waypoint,
    pub(crate) web: SocketAddr,
    pub(crate) app: Asked,
}

impl<'lab> Scene<'lab> {
    pub(crate) fn set(lab: &'lab Lab, kind: Kind) -> Self {
        let town = Town::meshed(lab);
        let app = authorizer::app(&town.server, WEB);
        let web = ServiceSpec::new("town", "web")
            .port_object(port("http", 80, WEB))
            .selector("app", "server")
            .label("culvert.dev/use-waypoint", "wp");
        let web = lab.service(web).unwrap();
        let waypoint = Waypoint::start(lab, &town.mesh, "town", "wp", kind);
        let scene = Self {
            lab,
            web: SocketAddr::from((web.ip4(), 80)),
            town,
            waypoint,
            app,
        };
        scene.wait("requests to be served", &mut || scene.status("/") == 200);
        scene
    }

    pub(crate) fn apply(&self, object: &Value) {
        self.lab.apply(object).unwrap();
    }

    pub(crate) fn wait(&self, what: &str, condition: &mut dyn FnMut() -> bool) {
        wait_until(what, PATIENCE, condition).unwrap_or_else(|error| {
            let findings = self.findings();
            panic!(
                "{error:#}\n{}\n{}\n{findings}",
                self.waypoint.process.log_tail(60),
                self.lab.logs(30)
            );
        });
    }

    pub(crate) fn ask_from(&self, pod: &Pod, path: &str, headers: &[&str]) -> (Head, String) {
        let mut lines = vec![format!("GET {path} HTTP/1.1"), "host: web.town".to_owned()];
        lines.extend(headers.iter().map(|header| (*header).to_owned()));
        http::ask(pod, self.web, &lines, ATTEMPT).unwrap_or((Head(Vec::new()), String::new()))
    }

    pub(crate) fn ask(&self, path: &str, headers: &[&str]) -> (Head, String) {
        self.ask_from(&self.town.client, path, headers)
    }

    pub(crate) fn status(&self, path: &str) -> u16 {
        self.ask(path, &[]).0.status().unwrap_or(0)
    }

    pub(crate) fn statuses(&self, path: &str, headers: &[&str], times: usize) -> Vec<u16> {
        (0..times)
            .map(|_| self.ask(path, headers).0.status().unwrap_or(0))
            .collect()
    }

    pub(crate) fn findings(&self) -> String {
        self.town.mesh.get_controller("/findings").unwrap().body
    }
}

/// A limit of so many an hour for a path.
pub(crate) fn limit(path: &str, requests: u32) -> Value {
    json!({"requests": requests, "per": "1h", "match": {"path": {"value": path}}})
}
