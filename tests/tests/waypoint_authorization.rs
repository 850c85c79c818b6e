//! Services that are asked about requests at waypoints, as each kind of waypoint asks them.
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

/// What the mesh knows of services that can be asked. `gone` is a Service without a pod.
const PROVIDERS: &str = "
extensionProviders:
- name: door-http
  envoyExtAuthzHttp:
    service: door.town.svc.cluster.local
    port: 8000
    pathPrefix: /check
    timeout: 10s
    includeRequestHeadersInCheck: [x-door]
    includeAdditionalHeadersInCheck: {x-from: mesh}
    headersToUpstreamOnAllow: [x-user]
    headersToDownstreamOnDeny: [x-why]
    includeRequestBodyInCheck: {maxRequestBytes: 8}
- name: door
  envoyExtAuthzGrpc: {service: door.town.svc.cluster.local, port: 9000, timeout: 10s}
- name: closed
  envoyExtAuthzHttp: {service: gone.town.svc.cluster.local, port: 8000, statusOnError: 503}
- name: open
  envoyExtAuthzHttp: {service: gone.town.svc.cluster.local, port: 8000, failOpen: true}
";

/// A policy by which a provider is asked about a path.
fn asking(provider: &str, path: &str) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": format!("ask-{provider}"), "namespace": "town"},
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": "web"}], "action": "CUSTOM", "provider": {"name": provider},
            "rules": [{"to": [{"operation": {"paths": [path]}}]}],
        },
    })
}

fn port(name: &str, port: u16, target: u16) -> Value {
    json!({"name": name, "port": port, "targetPort": target, "protocol": "TCP"})
}

fn asks_services_about_requests(kind: Kind) {
    let lab = lab(&format!("wp_authz_{}", kind.word()));
    let town = Town::meshed(&lab);
    let app = authorizer::app(&town.server, WEB);
    let door = lab
        .pod(
            PodSpec::new("town", "door")
                .on(1)
                .service_account("door")
                .label("app", "door"),
        )
        .unwrap();
    let asked = authorizer::http(&door, 8000);
    let _grpc = authorizer::grpc(&door, 9000);
    let web = ServiceSpec::new("town", "web")
        .port_object(port("http", 80, WEB))
        .selector("app", "server")
        .label("culvert.dev/use-waypoint", "wp");
    let web = lab.service(web).unwrap();
    let spec = ServiceSpec::new("town", "door").port_object(port("http", 8000, 8000));
    lab.service(spec.port_object(port("grpc", 9000, 9000)).selector("app", "door"))
        .unwrap();
    let gone = ServiceSpec::new("town", "gone").port_object(port("http", 8000, 8000));
    lab.service(gone.selector("app", "gone")).unwrap();
    // So the services are reached through the tunnel, or not at all.
    let strict = json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": {"name": "strict", "namespace": "town"}, "spec": {"mtls": {"mode": "STRICT"}},
    });
    lab.apply(&strict).unwrap();
    let waypoint = Waypoint::start(&lab, &town.mesh, "town", "wp", kind);
    let to = SocketAddr::from((web.ip4(), 80));
    let ask = |path: &str| -> (Head, String) {
        let lines = [
            format!("GET {path} HTTP/1.1"),
            "host: web.town".into(),
            "x-door: 1".into(),
            "x-other: 2".into(),
            "x-forwarded-client-cert: URI=spiffe://forged".into(),
        ];
        http::ask(&town.client, to, &lines, ATTEMPT).unwrap_or((Head(Vec::new()), String::new()))
    };
    let post = |path: &str, body: &str| -> (Head, String) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: web.town\r\ncontent-length: {}",
            body.len()
        );
        // The head ends behind its last line.
        http::ask_with(&town.client, to, &head, body, ATTEMPT).unwrap_or((Head(Vec::new()), String::new()))
    };
    let status = |path: &str| ask(path).0.status().unwrap_or(0);
    let wait = |what: &str, condition: &mut dyn FnMut() -> bool| {
        wait_until(what, PATIENCE, condition).unwrap_or_else(|error| {
            panic!("{error:#}\n{}\n{}", waypoint.process.log_tail(60), lab.logs(30));
        });
    };
    wait("requests to be served", &mut || status("/") == 200);

    // Nobody knows the provider yet.
    lab.apply(&asking("door-http", "/http/*")).unwrap();
    wait("what nobody can be asked about to be denied", &mut || {
        status("/http/allowed") == 403
    });
    let findings = || town.mesh.get_controller("/findings").unwrap().body;
    assert!(findings().contains("has no provider"), "{}", findings());

    lab.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "culvert-system"}}))
        .unwrap();
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "culvert-mesh", "namespace": "culvert-system"},
        "data": {"mesh": PROVIDERS},
    });
    lab.apply(&map).unwrap();
    for (provider, path) in [
        ("door", "/grpc/*"),
        ("closed", "/closed"),
        ("open", "/open"),
        ("nobody", "/unknown"),
    ] {
        lab.apply(&asking(provider, path)).unwrap();
    }
    wait("all to be asked", &mut || {
        status("/http/allowed") == 200
            && status("/grpc/allowed") == 200
            && status("/closed") == 503
            && status("/unknown") == 403
    });

    // Over HTTP: what the service sees, and what of its answer the application and the client see.
    let (head, body) = ask("/http/allowed?q=1");
    assert_eq!(head.status(), Some(200), "{body}");
    assert!(body.contains("x-user: ann") && !body.contains("x-secret"), "{body}");
    assert!(!body.contains("forged"), "nobody says by a header who they are: {body}");
    let (seen, _) = asked.last().unwrap();
    assert_eq!(seen.first(), "GET /check/http/allowed?q=1 HTTP/1.1");
    assert_eq!((seen.get("host"), seen.get("x-from")), (Some("web.town"), Some("mesh")));
    assert_eq!((seen.get("x-door"), seen.get("x-other")), (Some("1"), None), "{seen:?}");
    let (head, body) = ask("/http/denied");
    assert_eq!((head.status(), body.as_str()), (Some(401), "go away"));
    assert_eq!(
        (head.get("x-why"), head.get("x-secret")),
        (Some("so"), None),
        "{head:?}"
    );
    assert_eq!(status("/http/broken"), 403, "what fails denies");
    // Nothing but 200 lets a request pass: all else is the client's answer.
    let before = app.count();
    assert_eq!(status("/http/nothing"), 204);
    let (head, _) = ask("/http/elsewhere");
    assert_eq!((head.status(), head.get("location")), (Some(302), Some("/login")));
    assert_eq!(app.count(), before);
    // What the service sees of a request beside what is listed: the credentials, and no length where there is no body.
    let lines = [
        "GET /http/allowed HTTP/1.1",
        "host: web.town",
        "authorization: Basic eA==",
    ]
    .map(str::to_owned);
    assert_eq!(
        http::ask(&town.client, to, &lines, ATTEMPT).unwrap().0.status(),
        Some(200)
    );
    let (seen, _) = asked.last().unwrap();
    assert_eq!(
        (seen.get("authorization"), seen.get("content-length")),
        (Some("Basic eA=="), Some("0")),
        "{seen:?}"
    );

    // The client's identity, where the Gateway asks for it.
    let asks = "proxyHeaders: {forwardedClientCert: SANITIZE_SET}";
    let gateway = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "wp", "namespace": "town"},
        "spec": {
            "gatewayClassName": "culvert-waypoint", "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
            "infrastructure": {"annotations": {"proxy.istio.io/config": asks}},
        },
    });
    lab.apply(&gateway).unwrap();
    let client = town.client.account();
    let named = format!(
        "x-forwarded-client-cert: By=spiffe://cluster.local/ns/town/sa/wp;URI=spiffe://cluster.local/ns/town/sa/{client}"
    );
    wait("the application to see who the client is", &mut || {
        let (_, body) = ask("/other");
        body.contains(&named) && !body.contains("forged")
    });

    // With the body, which the application gets, too.
    let (head, body) = post("/http/body", "ok");
    assert!(
        head.status() == Some(200) && body.contains("body: ok"),
        "{head:?} {body}"
    );
    assert_eq!(asked.last().unwrap().1, "ok");
    let (head, body) = post("/http/body", "no");
    assert_eq!((head.status(), body.as_str()), (Some(403), "bad body"));
    assert_eq!(post("/http/body", "ok, but too long").0.status(), Some(413));

    // Over gRPC.
    let (head, body) = ask("/grpc/allowed");
    assert!(
        head.status() == Some(200) && body.contains("x-user: ann"),
        "{head:?} {body}"
    );
    assert_eq!(head.get("x-told"), Some("client"), "{head:?}");
    let (head, body) = ask("/grpc/denied");
    assert_eq!((head.status(), body.as_str()), (Some(401), "go away"));
    assert_eq!(head.get("x-why"), Some("so"), "{head:?}");

    // A service that is not there closes, or opens where that is asked for; what no policy matches nobody is asked about.
    assert_eq!(status("/closed"), 503);
    assert_eq!(status("/open"), 200);
    let before = (asked.count(), app.count());
    assert_eq!(status("/other"), 200);
    assert_eq!((asked.count(), app.count()), (before.0, before.1 + 1));
    if kind == Kind::Culvert {
        wait("the log to say who refused", &mut || {
            let log = waypoint.process.log_tail(300);
            log.contains("ext_authz_denied") && log.contains("ext_authz_error") && log.contains("UAEX")
        });
    }
}

#[test]
fn culvert_asks_services_about_requests() {
    asks_services_about_requests(Kind::Culvert);
}

#[test]
fn envoy_asks_services_about_requests() {
    asks_services_about_requests(Kind::Envoy);
}
