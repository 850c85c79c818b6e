//! What TrafficPolicies ask of waypoints, of each kind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{net::SocketAddr, time::Duration};

use culvert_lab::{Lab, Pod, ServiceSpec, wait_until};
use culvert_tests::{
    PATIENCE, Town,
    authorizer::{self, Asked},
    http::{self, Head},
    lab,
    town::PORT,
    waypoint::{Kind, Waypoint},
};
use serde_json::{Value, json};

const WEB: u16 = PORT + 1;
const ATTEMPT: Duration = Duration::from_secs(5);

fn port(name: &str, port: u16, target: u16) -> Value {
    json!({"name": name, "port": port, "targetPort": target, "protocol": "TCP"})
}

/// A policy of namespace `town`.
fn policy(name: &str, target: &Value, spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "culvert.dev/v1alpha1", "kind": "TrafficPolicy",
        "metadata": {"name": name, "namespace": "town"}, "spec": spec,
    });
    object["spec"]["targetRefs"] = json!([target]);
    object
}

fn service(name: &str) -> Value {
    json!({"group": "", "kind": "Service", "name": name})
}

fn route(name: &str, rule: Option<&str>) -> Value {
    let mut target = json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": name});
    if let Some(rule) = rule {
        target["sectionName"] = rule.into();
    }
    target
}

/// A town whose Service `web` is behind a waypoint.
struct Scene<'lab> {
    lab: &'lab Lab,
    town: Town<'lab>,
    waypoint: Waypoint,
    web: SocketAddr,
    app: Asked,
}

impl<'lab> Scene<'lab> {
    fn set(lab: &'lab Lab, kind: Kind) -> Self {
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

    fn apply(&self, object: &Value) {
        self.lab.apply(object).unwrap();
    }

    fn wait(&self, what: &str, condition: &mut dyn FnMut() -> bool) {
        wait_until(what, PATIENCE, condition).unwrap_or_else(|error| {
            let findings = self.findings();
            panic!(
                "{error:#}\n{}\n{}\n{findings}",
                self.waypoint.process.log_tail(60),
                self.lab.logs(30)
            );
        });
    }

    fn ask_from(&self, pod: &Pod, path: &str, headers: &[&str]) -> (Head, String) {
        let mut lines = vec![format!("GET {path} HTTP/1.1"), "host: web.town".to_owned()];
        lines.extend(headers.iter().map(|header| (*header).to_owned()));
        http::ask(pod, self.web, &lines, ATTEMPT).unwrap_or((Head(Vec::new()), String::new()))
    }

    fn ask(&self, path: &str, headers: &[&str]) -> (Head, String) {
        self.ask_from(&self.town.client, path, headers)
    }

    fn status(&self, path: &str) -> u16 {
        self.ask(path, &[]).0.status().unwrap_or(0)
    }

    fn statuses(&self, path: &str, headers: &[&str], times: usize) -> Vec<u16> {
        (0..times)
            .map(|_| self.ask(path, headers).0.status().unwrap_or(0))
            .collect()
    }

    fn findings(&self) -> String {
        self.town.mesh.get_controller("/findings").unwrap().body
    }
}

/// A limit of so many an hour for a path.
fn limit(path: &str, requests: u32) -> Value {
    json!({"requests": requests, "per": "1h", "match": {"path": {"value": path}}})
}

fn counts_requests_itself(kind: Kind) {
    let lab = lab(&format!("wp_limit_{}", kind.word()));
    let scene = Scene::set(&lab, kind);
    let with = |mut limit: Value, by: Value| {
        limit["by"] = by;
        limit
    };
    let limits = json!([
        limit("/few", 2),
        with(limit("/users", 1), json!({"header": "x-user"})),
        with(limit("/who", 1), json!({"clientIdentity": {}})),
        with(limit("/where", 1), json!({"clientAddress": {}})),
        {"requests": 1, "per": "1h", "match": {"method": "GET", "path": {"type": "Exact", "value": "/in-force"}}},
    ]);
    scene.apply(&policy(
        "a-web",
        &service("web"),
        &json!({"rateLimit": {"local": limits}}),
    ));
    scene.wait("the limits to be in force", &mut || scene.status("/in-force") == 429);

    // Two an hour, and both answers and refusals say what is left.
    let (head, _) = scene.ask("/few/one?a=b", &[]);
    assert_eq!(head.status(), Some(200));
    let said = |head: &Head| {
        let of = |name: &str| head.get(&format!("x-ratelimit-{name}")).map(str::to_owned);
        (of("limit"), of("remaining"))
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(said(&head), (text("2"), text("1")), "{head:?}");
    assert_eq!(scene.status("/few"), 200);
    let before = scene.app.count();
    let (head, body) = scene.ask("/few", &[]);
    assert_eq!(
        (head.status(), body.as_str()),
        (Some(429), "local_rate_limited"),
        "{head:?}"
    );
    assert_eq!(said(&head), (text("2"), text("0")), "{head:?}");
    eprintln!("what a refusal says: {head:?}");
    assert_eq!(scene.app.count(), before, "what is refused does not arrive");
    // The prefix is one of whole elements, and what no limit matches has none.
    assert_eq!(scene.statuses("/fewer", &[], 3), [200; 3]);

    // Each user by itself, and those who say nothing together.
    assert_eq!(scene.statuses("/users", &["x-user: ann"], 2), [200, 429]);
    assert_eq!(scene.statuses("/users", &["x-user: bob"], 2), [200, 429]);
    assert_eq!(scene.statuses("/users", &[], 2), [200, 429]);

    // Each client by its certificate, whatever it says of itself.
    let forged = "x-forwarded-for: 198.18.99.99";
    assert_eq!(scene.statuses("/who", &[forged], 2), [200, 429]);
    let neighbour = |path: &str| scene.ask_from(&scene.town.neighbour, path, &[]).0.status();
    assert_eq!([neighbour("/who"), neighbour("/who")], [Some(200), Some(429)]);
    assert_eq!(scene.status("/where"), 200);
    assert_eq!(scene.status("/where"), 429);
    eprintln!("with a forged address: {:?}", scene.ask("/where", &[forged]).0.status());
    assert_eq!([neighbour("/where"), neighbour("/where")], [Some(200), Some(429)]);

    // A route's policy counts all its rules together, beside the Service's; one rule's counts that alone.
    scene.apply(&json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r", "namespace": "town"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "web"}], "rules": [
            {"matches": [{"path": {"value": "/r1"}}, {"path": {"value": "/r2"}}], "backendRefs": [{"name": "web", "port": 80}]},
            {"name": "own", "matches": [{"path": {"value": "/own"}}], "backendRefs": [{"name": "web", "port": 80}]},
            {"backendRefs": [{"name": "web", "port": 80}]},
        ]},
    }));
    let all = json!({"rateLimit": {"local": [{"requests": 3, "per": "1h"}]}});
    let own = json!({"rateLimit": {"local": [{"requests": 1, "per": "1h"}]}});
    scene.apply(&policy("b-own", &route("r", Some("own")), &own));
    scene.wait("a rule's limit to be in force", &mut || scene.status("/own") == 429);
    scene.apply(&policy("b-route", &route("r", None), &all));
    scene.wait("a route's limit to be in force", &mut || scene.status("/r1") == 429);
    assert_eq!((scene.status("/r2"), scene.status("/")), (429, 429));
    scene.lab.delete("TrafficPolicy", "town", "b-route").unwrap();
    scene.wait("it to be gone", &mut || scene.status("/r1") == 200);

    // What a change of something else does not do: the Service's limits are not filled anew.
    if kind == Kind::Culvert {
        assert_eq!(scene.status("/few"), 429);
    }

    // Of two for one object the older holds, and the other says so; what makes no sense is not in force, and neither is what names
    // nothing that is there.
    scene.apply(&policy(
        "z-web",
        &service("web"),
        &json!({"rateLimit": {"local": [limit("/z", 1)]}}),
    ));
    scene.apply(&policy(
        "c-nothing",
        &service("nobody"),
        &json!({"rateLimit": {"local": [limit("/c", 1)]}}),
    ));
    scene.apply(&policy(
        "d-bad",
        &service("web"),
        &json!({"rateLimit": {"local": [limit("/d", 0)]}}),
    ));
    scene.apply(&policy(
        "e-unknown",
        &service("web"),
        &json!({"rateLimits": {"local": [limit("/e", 1)]}}),
    ));
    let said = [
        "TrafficPolicy town/a-web, which is older",
        "there is no Service town/nobody",
        "0 is not between 1 and",
        "spec.rateLimits",
    ];
    scene.wait("the findings to be there", &mut || {
        let findings = scene.findings();
        said.iter().all(|text| findings.contains(text))
    });
    assert_eq!(scene.statuses("/z", &[], 3), [200; 3]);
    if kind == Kind::Culvert {
        scene.wait("the log to say who refused", &mut || {
            let log = scene.waypoint.process.log_tail(300);
            log.contains("local_rate_limited") && log.contains("RL")
        });
    }
}

#[test]
fn culvert_counts_requests_itself() {
    counts_requests_itself(Kind::Culvert);
}

#[test]
fn envoy_counts_requests_itself() {
    counts_requests_itself(Kind::Envoy);
}
