//! What TrafficPolicies ask of waypoints, of each kind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{net::SocketAddr, time::Duration};

use culvert_lab::{Lab, Pod, PodSpec, ServiceSpec, wait_until};
use culvert_tests::{
    PATIENCE, Town,
    authorizer::{self, Asked},
    counter::Counter,
    health_app::HealthApp,
    http::{self, Head},
    lab, text_app,
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

fn compresses_answers(kind: Kind) {
    let lab = lab(&format!("wp_compress_{}", kind.word()));
    let scene = Scene::set(&lab, kind);
    text_app::serve(&scene.town.server, WEB + 1);
    let text = ServiceSpec::new("town", "text")
        .port_object(port("http", 80, WEB + 1))
        .selector("app", "server")
        .label("culvert.dev/use-waypoint", "wp");
    let text = lab.service(text).unwrap();
    let to = SocketAddr::from((text.ip4(), 80));
    let fetch = |path: &str, accepted: &str, pieces: Option<usize>| {
        text_app::fetch(&scene.town.client, to, path, accepted, pieces).unwrap_or((Head(Vec::new()), Vec::new()))
    };
    let coding = |path: &str, accepted: &str| fetch(path, accepted, None).0.all("content-encoding");
    let types = ["text/plain", "text/event-stream"];
    scene.apply(&policy(
        "text",
        &service("text"),
        &json!({"compression": {"contentTypes": types}}),
    ));
    scene.wait("answers to be compressed", &mut || coding("/long", "gzip").is_some());

    let long = text_app::long();
    for accepted in ["gzip", "br", "zstd"] {
        let (head, body) = fetch("/long", accepted, None);
        assert_eq!(head.all("content-encoding").as_deref(), Some(accepted), "{head:?}");
        assert!(body.len() < long.len() / 10, "{accepted}: {}", body.len());
        assert_eq!(text_app::unpacked(accepted, &body), long);
        assert_eq!(head.get("etag"), Some("W/\"tag\""), "{head:?}");
        let vary = head.get("vary").unwrap_or_default().to_ascii_lowercase();
        assert_eq!(vary, "accept-encoding", "{head:?}");
    }
    // As the client likes it best.
    let some = |text: &str| Some(text.to_owned());
    for (accepted, expected) in [
        ("gzip, deflate, br, zstd", some("zstd")),
        ("gzip, br", some("gzip")),
        ("gzip;q=0.5, br;q=0.8", some("br")),
        ("gzip;q=0, *", some("zstd")),
        ("identity", None),
        ("deflate", None),
        ("gzip;q=0", None),
    ] {
        assert_eq!(coding("/long", accepted), expected, "{accepted}");
    }
    // What is short, no text, compressed already or a part is left alone.
    for (path, expected) in [
        ("/short", None),
        ("/image", None),
        ("/packed", some("x-own")),
        ("/part", None),
    ] {
        let (head, body) = fetch(path, "gzip", None);
        assert_eq!(head.all("content-encoding"), expected, "{path}");
        assert!(path == "/short" || body == long.as_bytes(), "{path}");
    }
    // An event can be read when it is there, though nothing follows.
    let (head, mut body) = fetch("/events", "gzip", Some(1));
    if text_app::unpacked("gzip", &body).is_empty() {
        // The head of the stream may come by itself.
        body = fetch("/events", "gzip", Some(2)).1;
    }
    assert_eq!(head.get("content-encoding"), Some("gzip"));
    assert_eq!(text_app::unpacked("gzip", &body), "data: first\n\n");

    // A route's own algorithms hold in the place of the Service's.
    scene.apply(&json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "t", "namespace": "town"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "text"}], "rules": [
            {"name": "own", "matches": [{"path": {"value": "/own"}}], "backendRefs": [{"name": "text", "port": 80}]},
            {"filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["accept-encoding"]}}],
             "backendRefs": [{"name": "text", "port": 80}]},
        ]},
    }));
    scene.apply(&policy(
        "own",
        &route("t", Some("own")),
        &json!({"compression": {"algorithms": ["br"]}}),
    ));
    scene.wait("a rule's own algorithm to hold", &mut || {
        coding("/own", "gzip, br") == some("br") && coding("/own", "gzip").is_none()
    });
    // What the client accepts counts, also where the application is not told.
    assert_eq!(coding("/long", "gzip"), some("gzip"));
}

#[test]
fn culvert_compresses_answers() {
    compresses_answers(Kind::Culvert);
}

#[test]
fn envoy_compresses_answers() {
    compresses_answers(Kind::Envoy);
}

/// What the mesh knows of services that count. `gone` is a Service without a pod.
const PROVIDERS: &str = "
extensionProviders:
- name: counter
  envoyRateLimit: {service: counter.town.svc.cluster.local, port: 9000, timeout: 10s}
- name: gone
  envoyRateLimit: {service: gone.town.svc.cluster.local, port: 9000}
";

fn asks_a_service_that_counts(kind: Kind) {
    let lab = lab(&format!("wp_counter_{}", kind.word()));
    let scene = Scene::set(&lab, kind);
    let pod = PodSpec::new("town", "counter")
        .on(1)
        .service_account("counter")
        .label("app", "counter");
    let pod = lab.pod(pod).unwrap();
    let counter = Counter::serve(&pod, 9000, 2);
    let spec = |name: &str| ServiceSpec::new("town", name).port_object(port("grpc", 9000, 9000));
    lab.service(spec("counter").selector("app", "counter")).unwrap();
    lab.service(spec("gone").selector("app", "gone")).unwrap();
    // So the service is reached through the tunnel, or not at all.
    lab.apply(&json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": {"name": "strict", "namespace": "town"}, "spec": {"mtls": {"mode": "STRICT"}},
    }))
    .unwrap();

    let asking = |provider: &str, path: &str, on_failure: &str| {
        json!({"rateLimit": {"global": {
            "provider": provider, "domain": "shop", "onFailure": on_failure,
            "descriptors": [
                {"match": {"path": {"value": path}}, "entries": [
                    {"key": "path", "value": path}, {"key": "user", "header": "x-user"},
                ]},
                {"match": {"path": {"value": format!("{path}/who")}}, "entries": [{"key": "who", "clientIdentity": {}}]},
            ],
        }}})
    };
    // Nobody knows the provider yet: that is said, and what it would be asked about is refused.
    scene.apply(&policy("asks", &service("web"), &asking("counter", "/counted", "Deny")));
    let ask = |path: &str, user: &str| scene.ask(path, &[&format!("x-user: {user}")]);
    let status = |path: &str, user: &str| ask(path, user).0.status().unwrap_or(0);
    scene.wait("what nobody counts to be refused", &mut || {
        status("/counted", "ann") == 500
    });
    assert_eq!(status("/other", "ann"), 200, "nobody is asked about this");
    assert_eq!(
        scene.status("/counted"),
        200,
        "nor about who says nothing of themselves"
    );
    scene.wait("the finding to be there", &mut || {
        scene.findings().contains("has no provider")
    });

    scene.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "culvert-system"}}));
    scene.apply(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "culvert-mesh", "namespace": "culvert-system"},
        "data": {"mesh": PROVIDERS},
    }));
    scene.wait("the service to be asked", &mut || status("/counted", "warm") == 200);
    let (head, body) = ask("/counted", "ann");
    assert_eq!(head.status(), Some(200), "{head:?}");
    assert!(
        body.contains("x-counted: request"),
        "the service's field goes on: {body}"
    );
    assert_eq!(head.get("x-counted"), Some("answer"), "{head:?}");
    assert_eq!(head.get("x-ratelimit-remaining"), Some("1"), "{head:?}");
    assert_eq!(head.get("x-ratelimit-limit"), Some("2, 2;w=3600"), "{head:?}");
    assert_eq!(status("/counted", "ann"), 200);
    let before = scene.app.count();
    let (head, _) = ask("/counted", "ann");
    assert_eq!(head.status(), Some(429), "{head:?}");
    assert_eq!(
        (head.get("x-envoy-ratelimited"), head.get("x-counted")),
        (Some("true"), Some("answer")),
        "{head:?}"
    );
    assert_eq!(scene.app.count(), before, "what is refused does not arrive");
    assert_eq!(status("/counted", "bob"), 200);
    assert_eq!(status("/counted/who", "cat"), 200);
    let seen = counter.seen();
    let client = scene.town.client.account();
    for name in [
        "shop match=yes,path=/counted,user=ann".to_owned(),
        format!("shop match=yes,who=spiffe://cluster.local/ns/town/sa/{client}"),
    ] {
        assert!(seen.contains_key(&name), "{name}: {seen:?}");
    }

    // A service that does not answer closes, or opens where that is asked for.
    scene.apply(&policy("asks", &service("web"), &asking("gone", "/counted", "Deny")));
    scene.wait("what nobody counts to be refused", &mut || {
        status("/counted", "dan") == 500
    });
    scene.apply(&policy("asks", &service("web"), &asking("gone", "/counted", "Allow")));
    scene.wait("what nobody counts to go on", &mut || status("/counted", "dan") == 200);
    if kind == Kind::Culvert {
        scene.wait("the log to say who refused", &mut || {
            let log = scene.waypoint.process.log_tail(300);
            log.contains("request_rate_limited") && log.contains("rate_limiter_error") && log.contains("RLSE")
        });
    }
}

#[test]
fn culvert_asks_a_service_that_counts() {
    asks_a_service_that_counts(Kind::Culvert);
}

#[test]
fn envoy_asks_a_service_that_counts() {
    asks_a_service_that_counts(Kind::Envoy);
}

fn looks_after_endpoints(kind: Kind) {
    const APP: u16 = PORT + 10;
    let lab = lab(&format!("wp_health_{}", kind.word()));
    let scene = Scene::set(&lab, kind);
    let pods = [("one", 1), ("two", 2)].map(|(name, node)| {
        let spec = PodSpec::new("town", name).on(node).label("app", "pair");
        lab.pod(spec).unwrap()
    });
    scene
        .town
        .mesh
        .wait_enrolled(&[&pods[0], &pods[1]], true, PATIENCE)
        .unwrap();
    let [one, two] = [(&pods[0], "one"), (&pods[1], "two")].map(|(pod, name)| HealthApp::serve(pod, APP, name));
    let _third = HealthApp::serve(&pods[0], APP + 2, "one");
    let make = |name: &str, protocol: &str, target: u16| {
        let spec = ServiceSpec::new("town", name)
            .port_object(port(protocol, 80, target))
            .selector("app", "pair")
            .label("culvert.dev/use-waypoint", "wp");
        SocketAddr::from((lab.service(spec).unwrap().ip4(), 80))
    };
    let (web, calls) = (make("pair", "http", APP), make("calls", "grpc", APP + 1));
    let often = json!({"interval": "1s", "timeout": "500ms", "healthy": 2, "unhealthy": 2});
    let check = |how: &str, what: Value| {
        let mut check = often.clone();
        check[how] = what;
        json!({"healthCheck": check})
    };
    let statuses = json!({"path": "/healthz", "statuses": ["200-299"]});
    scene.apply(&policy("pair", &service("pair"), &check("http", statuses)));
    scene.apply(&policy("calls", &service("calls"), &check("grpc", json!({}))));
    let apps = |to: SocketAddr| {
        let ask = |_| {
            let lines = ["GET / HTTP/1.1".to_owned(), "host: a".to_owned()];
            let (head, _) = http::ask(&scene.town.client, to, &lines, ATTEMPT).ok()?;
            Some(head.get("x-app").unwrap_or("none").to_owned())
        };
        (0..12).map(ask).collect::<std::collections::BTreeSet<_>>()
    };
    let set = |names: &[&str]| {
        names
            .iter()
            .map(|name| Some((*name).to_owned()))
            .collect::<std::collections::BTreeSet<_>>()
    };
    let both = set(&["one", "two"]);
    if kind != Kind::Culvert {
        // Envoy checks from its main thread, which reaches no internal listener: a check that it obeyed would fail for all endpoints.
        two.set(false);
        scene.wait(
            "all to get requests though one says that it does not serve",
            &mut || apps(web) == set(&["one", "two"]),
        );
        return;
    }
    scene.wait("endpoints to be looked after", &mut || {
        one.checks() > 1 && two.checks() > 1
    });
    scene.wait("both to get requests", &mut || apps(web) == both && apps(calls) == both);
    two.set(false);
    let first = set(&["one"]);
    scene.wait("one to be left out", &mut || apps(web) == first && apps(calls) == first);
    assert_eq!(apps(web), first);
    one.set(false);
    scene.wait("nobody to be there", &mut || apps(web) == set(&["none"]));
    one.set(true);
    two.set(true);
    scene.wait("both to be back", &mut || apps(web) == both && apps(calls) == both);
    let log = scene.waypoint.process.log_tail(5000);
    assert!(
        log.contains("fails its health checks") && log.contains("status 503"),
        "{log}"
    );
    assert!(log.contains("serving status 2"), "{log}");
    let page = http::page(scene.waypoint.place.pod(), 15000, "/config_dump").unwrap();
    assert!(page.contains("checked"), "{page}");
    // Where nobody takes connections nobody gets requests: the second pod has no such port.
    let third = make("third", "http", APP + 2);
    scene.apply(&policy("third", &service("third"), &check("tcp", json!({}))));
    scene.wait("only one to be left", &mut || apps(third) == first);
    assert_eq!(apps(third), first);
}

#[test]
fn culvert_looks_after_endpoints() {
    looks_after_endpoints(Kind::Culvert);
}

#[test]
fn envoy_serves_on_where_health_is_checked() {
    looks_after_endpoints(Kind::Envoy);
}
