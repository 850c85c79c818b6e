//! Routes that ask a service whether a request may pass (`ExternalAuth`), at each kind of waypoint.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{net::SocketAddr, time::Duration};

use culvert_lab::{PodSpec, ServiceSpec, wait_until};
use culvert_tests::{
    PATIENCE, Town, authorizer,
    http::{self, Head},
    lab,
    town::PORT,
    waypoint::{Kind, Waypoint},
};
use serde_json::{Value, json};

const WEB: u16 = PORT + 1;
const ATTEMPT: Duration = Duration::from_secs(5);

/// A rule for a path, which asks who is said.
fn rule(path: &str, auth: Value) -> Value {
    json!({
        "matches": [{ "path": { "value": path } }],
        "filters": [{ "type": "ExternalAuth", "externalAuth": auth }],
        "backendRefs": [{ "name": "web", "port": 80 }],
    })
}

fn route() -> Value {
    let door = |port: u16| json!({ "name": "door", "namespace": "guard", "port": port });
    let http = json!({
        "protocol": "HTTP", "backendRef": door(8000), "forwardBody": { "maxSize": 8 },
        "http": { "path": "/check", "allowedHeaders": ["X-Door"], "allowedResponseHeaders": ["x-user"] },
    });
    let mut redirect = rule("/away", http.clone());
    redirect["filters"].as_array_mut().unwrap().push(json!({
        "type": "RequestRedirect", "requestRedirect": { "hostname": "other.town" },
    }));
    redirect.as_object_mut().unwrap().remove("backendRefs");
    let rules = json!([
        rule("/http", http),
        rule("/all", json!({ "protocol": "HTTP", "backendRef": door(8000) })),
        rule("/grpc", json!({ "protocol": "GRPC", "backendRef": door(9000), "grpc": { "allowedHeaders": ["x-door"] } })),
        rule("/gone", json!({ "protocol": "HTTP", "backendRef": { "name": "gone", "port": 8000 } })),
        rule("/nobody", json!({ "protocol": "HTTP", "backendRef": { "name": "nobody", "port": 8000 } })),
        redirect,
        { "backendRefs": [{ "name": "web", "port": 80 }] },
    ]);
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": { "name": "web", "namespace": "town" },
        "spec": { "parentRefs": [{ "group": "", "kind": "Service", "name": "web" }], "rules": rules },
    })
}

fn asks_as_routes_say(kind: Kind) {
    let lab = lab(&format!("wp_route_auth_{}", kind.word()));
    let town = Town::meshed(&lab);
    let app = authorizer::app(&town.server, WEB);
    lab.namespace("guard").unwrap();
    let door = PodSpec::new("guard", "door").on(1).service_account("door");
    let door = lab.pod(door.label("app", "door")).unwrap();
    lab.label("guard", Some("ambient")).unwrap();
    town.mesh.wait_enrolled(&[&door], true, PATIENCE).unwrap();
    let asked = authorizer::http(&door, 8000);
    let _grpc = authorizer::grpc(&door, 9000);
    let port = |name: &str, port: u16, target: u16| json!({ "name": name, "port": port, "targetPort": target });
    let web = ServiceSpec::new("town", "web").port_object(port("http", 80, WEB));
    let web = web.selector("app", "server").label("culvert.dev/use-waypoint", "wp");
    let web = lab.service(web).unwrap();
    let spec = ServiceSpec::new("guard", "door").port_object(port("http", 8000, 8000));
    lab.service(spec.port_object(port("grpc", 9000, 9000)).selector("app", "door"))
        .unwrap();
    let gone = ServiceSpec::new("town", "gone").port_object(port("http", 8000, 8000));
    lab.service(gone.selector("app", "gone")).unwrap();
    let waypoint = Waypoint::start(&lab, &town.mesh, "town", "wp", kind);
    let to = SocketAddr::from((web.ip4(), 80));
    let none = || (Head(Vec::new()), String::new());
    let ask_at = |to: SocketAddr, path: &str| -> (Head, String) {
        let lines = [
            format!("GET {path} HTTP/1.1"),
            "host: web.town".into(),
            "x-door: 1".into(),
            "x-other: 2".into(),
        ];
        http::ask(&town.client, to, &lines, ATTEMPT).unwrap_or_else(|_| none())
    };
    let ask = |path: &str| ask_at(to, path);
    let post = |path: &str, body: &str| -> (Head, String) {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: web.town\r\ncontent-length: {length}");
        http::ask_with(&town.client, to, &head, body, ATTEMPT).unwrap_or_else(|_| none())
    };
    let status = |path: &str| ask(path).0.status().unwrap_or(0);
    let wait = |what: &str, condition: &mut dyn FnMut() -> bool| {
        wait_until(what, PATIENCE, condition).unwrap_or_else(|error| {
            panic!("{error:#}\n{}\n{}", waypoint.process.log_tail(60), lab.logs(30));
        });
    };
    wait("requests to be served", &mut || status("/http/any") == 200);
    let own = SocketAddr::from((town.server.ip4(), WEB));
    let own_status = |path: &str| ask_at(own, path).0.status().unwrap_or(0);
    wait("a pod to be reached by its own address", &mut || {
        own_status("/free") == 200
    });

    lab.apply(&route()).unwrap();
    // Nobody in `guard` lets the route refer to its Service.
    wait("rules without a grant to answer 500", &mut || {
        status("/http/any") == 500 && status("/grpc/any") == 500 && status("/free") == 200
    });
    let grant = json!({
        "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant",
        "metadata": { "name": "town", "namespace": "guard" },
        "spec": {
            "from": [{ "group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "town" }],
            "to": [{ "group": "", "kind": "Service", "name": "door" }],
        },
    });
    lab.apply(&grant).unwrap();
    wait("the service to be asked", &mut || {
        status("/http/any") == 200 && status("/grpc/any") == 200 && status("/gone/any") == 403
    });

    // Over HTTP: what is listed, and what is always seen.
    let (head, body) = ask("/http/allowed?q=1");
    assert_eq!(head.status(), Some(200), "{body}");
    assert!(body.contains("x-user: ann") && !body.contains("x-secret"), "{body}");
    let (seen, _) = asked.last().unwrap();
    assert_eq!(seen.first(), "GET /check/http/allowed?q=1 HTTP/1.1");
    assert_eq!(seen.get("host"), Some("web.town"));
    assert_eq!((seen.get("x-door"), seen.get("x-other")), (Some("1"), None), "{seen:?}");
    let (head, body) = ask("/http/denied");
    assert_eq!((head.status(), body.as_str()), (Some(401), "go away"));
    assert_eq!(head.get("x-why"), Some("so"), "{head:?}");
    assert_eq!(status("/http/broken"), 403, "what fails denies");

    // Without lists: no header beside those, and all of the answer's but what belongs to it alone.
    let (head, body) = post("/all", "a body");
    assert_eq!(head.status(), Some(200), "{body}");
    assert!(
        body.contains("x-user: ann") && body.contains("x-secret: s") && body.contains("body: a body"),
        "{body}"
    );
    let (seen, sent) = asked.last().unwrap();
    assert_eq!((seen.first(), sent.as_str()), ("POST /all HTTP/1.1", ""));
    assert_eq!(seen.get("content-length"), Some("0"), "{seen:?}");

    // With the body.
    let (head, body) = post("/http/body", "ok");
    assert!(
        head.status() == Some(200) && body.contains("body: ok"),
        "{head:?} {body}"
    );
    assert_eq!(asked.last().unwrap().1, "ok");
    assert_eq!(post("/http/body", "no").0.status(), Some(403));
    let count = app.count();
    assert_eq!(post("/http/body", "ok, but too long").0.status(), Some(413));

    // Who is redirected is asked about, too; what nobody can be asked about is not let through.
    assert_eq!(status("/away/allowed"), 302);
    assert_eq!(status("/away/denied"), 401);
    assert_eq!(status("/gone/any"), 403);
    assert_eq!(status("/nobody/any"), 500);
    assert_eq!(app.count(), count, "nothing of that reached the application");

    // Over gRPC.
    let (head, body) = ask("/grpc/allowed");
    assert!(
        head.status() == Some(200) && body.contains("x-user: ann"),
        "{head:?} {body}"
    );
    assert_eq!(head.get("x-told"), Some("client"), "{head:?}");
    let (head, body) = ask("/grpc/denied");
    assert_eq!((head.status(), body.as_str()), (Some(401), "go away"));

    // Who goes past routes, to a pod by its own address, goes past nobody who is asked. Envoy cannot ask there, and takes none of it.
    if kind == Kind::Envoy {
        for path in ["/http/allowed", "/http/denied", "/free"] {
            assert_eq!(own_status(path), 0, "{path}");
        }
    } else {
        wait("requests by a pod's own address to be asked about", &mut || {
            own_status("/http/denied") == 401
        });
        assert_eq!((own_status("/http/allowed"), own_status("/free")), (200, 200));
        assert_eq!(own_status("/gone/any"), 403);
    }

    // Other rules ask nobody.
    let before = asked.count();
    assert_eq!(ask("/free").0.status(), Some(200));
    assert_eq!(asked.count(), before);
}

#[test]
fn culvert_asks_as_routes_say() {
    asks_as_routes_say(Kind::Culvert);
}

#[test]
fn envoy_asks_as_routes_say() {
    asks_as_routes_say(Kind::Envoy);
}
