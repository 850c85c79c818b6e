//! Applications that speak TLS themselves behind a waypoint that reads requests: it opens TLS to them, as BackendTLSPolicy and DestinationRule
//! say, and nothing reaches an application in another way.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    time::Duration,
};

use culvert_lab::{Service, ServiceSpec, wait_until};
use culvert_tests::{
    PATIENCE, Town,
    app::{self, Seen},
    authority::Authority,
    grpc,
    http::{Head, ask, page},
    lab,
    tls_server::TlsServer,
    town::PORT,
    waypoint::{Kind, Waypoint},
};
use serde_json::{Value, json};
use time::OffsetDateTime;

/// How long an attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);

const TLS: u16 = PORT + 10;
const EXPIRED: u16 = PORT + 11;
const CLEAR: u16 = PORT + 12;
/// Of applications that are dialled by their pods' own addresses.
const OWN: u16 = PORT + 13;
const OWN_BYTES: u16 = PORT + 14;

const URI: &str = "spiffe://elsewhere/app";

/// Applications on one pod: one that speaks TLS, one whose certificate is over, one in clear.
struct Place<'lab> {
    town: Town<'lab>,
    waypoint: Waypoint,
    tls: TlsServer,
    expired: TlsServer,
    clear: Seen,
    /// At the ports of those that are dialled by their own addresses.
    own: [TlsServer; 2],
    _bytes: TlsServer,
}

impl<'lab> Place<'lab> {
    fn make(lab: &'lab culvert_lab::Lab, kind: Kind) -> Self {
        let town = Town::meshed(lab);
        let authority = Authority::stranger();
        let (now, day) = (OffsetDateTime::now_utc(), time::Duration::DAY);
        let leaf = |from, to| authority.leaf_between(&["good.example", URI], from, to);
        let tls = TlsServer::serve(&town.server, TLS, leaf(now - day, now + day));
        let expired = TlsServer::serve(&town.server, EXPIRED, leaf(now - day - day, now - day));
        let clear = Seen::default();
        app::serve(&town.server, CLEAR, "clear", &clear);
        app::serve(&town.neighbour, CLEAR, "clear", &clear);
        let own = [&town.server, &town.neighbour].map(|pod| TlsServer::serve(pod, OWN, leaf(now - day, now + day)));
        let bytes = TlsServer::serve(&town.neighbour, OWN_BYTES, leaf(now - day, now + day));
        let waypoint = Waypoint::start(lab, &town.mesh, "town", "wp", kind);
        let place = Self {
            town,
            waypoint,
            tls,
            expired,
            clear,
            own,
            _bytes: bytes,
        };
        place.authorities("ca", &authority);
        place.authorities("others", &Authority::stranger());
        place
    }

    fn authorities(&self, name: &str, authority: &Authority) {
        let metadata = json!({ "name": name, "namespace": "town" });
        let data = json!({ "ca.crt": authority.root_pem() });
        let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data });
        self.town.lab.apply(&map).unwrap();
    }

    fn service(&self, name: &str, ports: &[Value]) -> SocketAddr {
        self.service_of("server", name, ports)
    }

    /// A Service of the pods with this label.
    fn service_of(&self, app: &str, name: &str, ports: &[Value]) -> SocketAddr {
        let mut spec = ServiceSpec::new("town", name).selector("app", app);
        for port in ports {
            spec = spec.port_object(port.clone());
        }
        let made: Service = self
            .town
            .lab
            .service(spec.label("culvert.dev/use-waypoint", "wp"))
            .unwrap();
        SocketAddr::from((made.ip4(), 80))
    }

    fn apply(&self, version: &str, kind: &str, name: &str, spec: &Value) {
        let metadata = json!({ "name": name, "namespace": "town" });
        let object = json!({ "apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec });
        self.town.lab.apply(&object).unwrap();
    }

    /// A policy for the Service of the same name, or for one port of it.
    fn policy(&self, name: &str, section: Option<&str>, validation: &Value) {
        let mut target = json!({ "group": "", "kind": "Service", "name": name });
        if let Some(section) = section {
            target["sectionName"] = section.into();
        }
        let spec = json!({ "targetRefs": [target], "validation": validation });
        self.apply("gateway.networking.k8s.io/v1", "BackendTLSPolicy", name, &spec);
    }

    fn rule(&self, name: &str, tls: &Value) {
        let spec = json!({ "host": name, "trafficPolicy": { "tls": tls } });
        self.apply("networking.istio.io/v1", "DestinationRule", name, &spec);
    }

    /// A rule that says nothing of TLS: what a policy says holds beside it.
    fn hurry(&self, name: &str) {
        let pool = json!({ "tcp": { "connectTimeout": "1s" } });
        let spec = json!({ "host": name, "trafficPolicy": { "connectionPool": pool } });
        self.apply("networking.istio.io/v1", "DestinationRule", name, &spec);
    }

    fn ask(&self, to: SocketAddr, key: &str) -> Option<(Head, String)> {
        let lines = [
            "GET / HTTP/1.1".to_owned(),
            "host: any.example".to_owned(),
            format!("x-key: {key}"),
        ];
        ask(&self.town.client, to, &lines, ATTEMPT).ok()
    }

    /// Whether bytes come to the application in TLS.
    fn wraps_bytes(&self, to: SocketAddr) -> bool {
        let exchange = || {
            let mut stream = self.town.client.connect(to, ATTEMPT)?;
            stream.set_read_timeout(Some(ATTEMPT))?;
            stream.write_all(b"hello")?;
            let mut answer = [0; 9];
            stream.read_exact(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        };
        exchange().is_ok_and(|answer| &answer == b"tls:hello")
    }

    fn status(&self, to: SocketAddr) -> Option<u16> {
        self.ask(to, "")?.0.status()
    }

    /// Waits for answers of the application, and returns the name that it was asked for, and what was said to be spoken.
    #[track_caller]
    fn named(&self, to: SocketAddr) -> (String, String) {
        let mut found = None;
        self.wait("the application to answer in TLS", || {
            found = self.ask(to, "").filter(|(_, body)| body == "tls");
            found.is_some()
        });
        let (head, _) = found.unwrap();
        let text = |name: &str| head.get(name).unwrap_or_default().to_owned();
        (text("x-sni"), text("x-alpn"))
    }

    #[track_caller]
    fn wait(&self, what: &str, condition: impl FnMut() -> bool) {
        wait_until(what, PATIENCE, condition).unwrap_or_else(|error| {
            let log = self.waypoint.process.log_tail(40);
            panic!("{error:#}\n{log}\n{}", self.town.lab.logs(20))
        });
    }
}

fn http(target: u16) -> Value {
    json!({ "name": "http", "port": 80, "targetPort": target, "protocol": "TCP", "appProtocol": "http" })
}

fn by_map(hostname: &str, map: &str) -> Value {
    json!({ "hostname": hostname, "caCertificateRefs": [{ "group": "", "kind": "ConfigMap", "name": map }] })
}

fn with_names(names: &Value) -> Value {
    let mut validation = by_map("any.example", "ca");
    validation["subjectAltNames"] = names.clone();
    validation
}

fn who_is_as_demanded_is_reached(place: &Place<'_>) {
    let good = place.service("good", &[http(TLS)]);
    place.policy("good", None, &by_map("good.example", "ca"));
    assert_eq!(place.named(good), ("good.example".to_owned(), "http/1.1".to_owned()));

    let uri = place.service("uri", &[http(TLS)]);
    place.policy("uri", None, &with_names(&json!([{ "type": "URI", "uri": URI }])));
    assert_eq!(place.named(uri).0, "any.example");

    let rule = place.service("rule", &[http(TLS)]);
    place.rule(
        "rule",
        &json!({ "mode": "SIMPLE", "sni": "rule.example", "insecureSkipVerify": true }),
    );
    assert_eq!(place.named(rule).0, "rule.example");
    let unnamed = place.service("unnamed", &[http(TLS)]);
    place.rule("unnamed", &json!({ "mode": "SIMPLE", "insecureSkipVerify": true }));
    assert_eq!(place.named(unnamed).0, "unnamed.town.svc.cluster.local");
}

/// 503, and nothing of the request leaves the waypoint.
fn who_is_not_as_demanded_is_not_reached(place: &Place<'_>) {
    let before = (place.tls.reached(), place.expired.reached());
    let system = json!({ "hostname": "good.example", "wellKnownCACertificates": "System" });
    let other_uri = with_names(&json!([{ "type": "URI", "uri": "spiffe://elsewhere/other" }]));
    let bad = [
        ("stranger", TLS, by_map("good.example", "others")),
        ("misnamed", TLS, by_map("other.example", "ca")),
        ("othernamed", TLS, other_uri),
        ("expired", EXPIRED, by_map("good.example", "ca")),
        ("clear", CLEAR, by_map("good.example", "ca")),
        ("system", TLS, system),
    ];
    // Policies first: none of these Services was ever there without one.
    for (name, _, validation) in &bad {
        place.policy(name, None, validation);
    }
    place.hurry("clear");
    let services = bad.map(|(name, port, _)| (name, place.service(name, &[http(port)])));
    for (name, to) in services {
        // Who speaks no TLS may wait for more, or go.
        let reasons: &[&str] = match name {
            "clear" => &["remote connection failure", "connection timeout"],
            _ => &["remote connection failure"],
        };
        place.wait(&format!("{name} to be answered 503"), || {
            let answer = place.ask(to, name);
            answer.is_some_and(|(head, body)| {
                let is_said = |reason: &&str| body.contains(&format!("reset reason: {reason}"));
                head.status() == Some(503) && reasons.iter().any(is_said)
            })
        });
        assert!(place.clear.with_key(name).is_empty(), "{name} in clear");
    }
    assert_eq!((place.tls.reached(), place.expired.reached()), before);
}

fn http2_is_spoken_where_the_port_says_so(place: &Place<'_>) {
    let port = json!({ "name": "grpc", "port": 80, "targetPort": TLS, "protocol": "TCP", "appProtocol": "grpc" });
    place.policy("calls", None, &by_map("good.example", "ca"));
    let calls = place.service("calls", &[port]);
    let mut last = String::new();
    place.wait("a call to be answered", || {
        let reply = grpc::call(&place.town.client, calls, "/shop.Books/List", ATTEMPT);
        last = format!("{reply:?}");
        reply.is_ok_and(|reply| {
            let status = reply.trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
            reply.headers.get("x-alpn").is_some_and(|protocol| protocol == "h2")
                && status.is_some_and(|status| status == "0")
                && reply.message == b"tls"
        })
    });
}

fn ports_differ_and_bytes_are_wrapped(place: &Place<'_>) {
    let secure = json!({ "name": "secure", "port": 81, "targetPort": TLS, "protocol": "TCP", "appProtocol": "http" });
    let bytes = json!({ "name": "tcp", "port": 82, "targetPort": TLS, "protocol": "TCP" });
    let ports = place.service("ports", &[http(CLEAR), secure, bytes]);
    place.policy("ports", Some("secure"), &by_map("good.example", "ca"));
    assert_eq!(place.named(SocketAddr::new(ports.ip(), 81)).0, "good.example");
    place.wait("another port to be as it was", || {
        place.ask(ports, "").is_some_and(|(_, body)| body == "clear")
    });

    let spec = json!({
        "host": "ports",
        "trafficPolicy": { "portLevelSettings": [{ "port": { "number": 82 }, "tls": { "mode": "SIMPLE", "insecureSkipVerify": true } }] },
    });
    place.apply("networking.istio.io/v1", "DestinationRule", "ports", &spec);
    place.wait("bytes to be wrapped", || {
        place.wraps_bytes(SocketAddr::new(ports.ip(), 82))
    });
    assert_eq!(place.named(SocketAddr::new(ports.ip(), 81)).0, "good.example");
}

fn a_policy_comes_and_goes(place: &Place<'_>) {
    // Without the certificates nothing goes anywhere, and not in clear.
    place.policy("turns", None, &by_map("good.example", "late"));
    place.hurry("turns");
    let turns = place.service("turns", &[http(CLEAR)]);
    place.wait("requests to be refused without certificates", || {
        place.status(turns) == Some(503)
    });
    assert!(place.clear.with_key("turns").is_empty());
    place.town.lab.delete("BackendTLSPolicy", "town", "turns").unwrap();
    place.wait("requests to go in clear without a policy", || {
        place.ask(turns, "turns").is_some_and(|(_, body)| body == "clear")
    });
    // A connection in clear is there now. It is not used for what is to go in TLS.
    place.policy("turns", None, &by_map("good.example", "ca"));
    place.wait(
        "requests to be refused by TLS that the application does not speak",
        || place.status(turns) == Some(503),
    );
    let seen = place.clear.with_key("turns").len();
    assert_eq!(place.ask(turns, "turns").unwrap().0.status(), Some(503));
    assert_eq!(place.clear.with_key("turns").len(), seen);
    place.town.lab.delete("BackendTLSPolicy", "town", "turns").unwrap();
    place.wait("requests to go in clear again", || {
        place.ask(turns, "").is_some_and(|(_, body)| body == "clear")
    });
}

/// Who dials a pod gets to it as who dials its Service: in that TLS, or not at all.
fn pods_by_their_own_addresses_speak_the_same(place: &Place<'_>) {
    let at = |pod: &culvert_lab::Pod, port: u16| SocketAddr::from((pod.ip4(), port));
    let (server, neighbour) = (&place.town.server, &place.town.neighbour);
    for app in ["server", "neighbour"] {
        let name = format!("own-{app}");
        place.policy(&name, None, &by_map("good.example", "ca"));
        place.service_of(app, &name, &[http(OWN)]);
    }
    for (index, pod) in [server, neighbour].into_iter().enumerate() {
        assert_eq!(
            place.named(at(pod, OWN)),
            ("good.example".to_owned(), "http/1.1".to_owned())
        );
        let before = [0, 1].map(|index: usize| place.own[index].reached());
        assert_eq!(place.status(at(pod, OWN)), Some(200));
        let mut expected = before;
        expected[index] += 1;
        assert_eq!([0, 1].map(|index: usize| place.own[index].reached()), expected);
    }
    // Another Service of the same pods that asks for nothing changes nothing.
    let plain = place.service_of("neighbour", "a-plain", &[http(OWN)]);
    place.wait("the other Service to be served", || place.status(plain).is_some());
    assert_eq!(place.named(at(neighbour, OWN)).0, "good.example");

    let bytes = json!({ "name": "tcp", "port": 80, "targetPort": OWN_BYTES, "protocol": "TCP" });
    place.rule("own-bytes", &json!({ "mode": "SIMPLE", "insecureSkipVerify": true }));
    place.service_of("neighbour", "own-bytes", &[bytes]);
    place.wait("bytes to a pod to be wrapped", || {
        place.wraps_bytes(at(neighbour, OWN_BYTES))
    });

    // What is said of a subset holds for its pods alone.
    let subset = json!({ "name": "one", "labels": { "app": "server" }, "trafficPolicy": { "tls": {
        "mode": "SIMPLE", "sni": "of-the-subset.example", "insecureSkipVerify": true,
    } } });
    let spec = json!({ "host": "own-server", "subsets": [subset] });
    place.apply("networking.istio.io/v1", "DestinationRule", "own-server", &spec);
    place.wait("a subset's pod to be asked for the subset's name", || {
        place.named(at(server, OWN)).0 == "of-the-subset.example"
    });
    assert_eq!(place.named(at(neighbour, OWN)).0, "good.example");

    // It speaks none of it; there is no certificate to trust.
    let clear = at(neighbour, CLEAR);
    place.policy("own-clear", None, &by_map("good.example", "ca"));
    place.hurry("own-clear");
    let service = place.service_of("neighbour", "own-clear", &[http(CLEAR)]);
    // Until the Service is there, the pod is reached as any other.
    place.wait("a pod that speaks no TLS to be answered for with 503", || {
        place.ask(clear, "before").and_then(|(head, _)| head.status()) == Some(503)
    });
    assert_eq!(place.ask(clear, "own").unwrap().0.status(), Some(503));
    place.policy("own-clear", None, &by_map("good.example", "later"));
    place.wait("connections to it to be refused without certificates", || {
        place.ask(clear, "own").is_none()
    });
    assert_eq!(place.ask(service, "own").unwrap().0.status(), Some(503));
    assert!(place.clear.with_key("own").is_empty(), "in clear");
    place.town.lab.delete("BackendTLSPolicy", "town", "own-clear").unwrap();
    place.wait("requests to it to go in clear without a policy", || {
        place.ask(clear, "gone").is_some_and(|(_, body)| body == "clear")
    });
}

fn says_why(place: &Place<'_>) {
    let metrics = page(place.waypoint.place.pod(), 15020, "/metrics").unwrap_or_default();
    let log = place.waypoint.process.log_tail(4000);
    for reason in ["issuer", "name", "time"] {
        let series = format!("culvert_waypoint_endpoint_tls_failures_total{{reason=\"{reason}\"}}");
        assert!(metrics.contains(&series), "{series}\n{metrics}");
    }
    assert!(log.contains("TLS with the endpoint: "), "{log}");
}

fn opens_tls_to_endpoints(kind: Kind) {
    let lab = lab(&format!("wp_backend_tls_{}", kind.word()));
    let place = Place::make(&lab, kind);
    who_is_as_demanded_is_reached(&place);
    who_is_not_as_demanded_is_not_reached(&place);
    http2_is_spoken_where_the_port_says_so(&place);
    ports_differ_and_bytes_are_wrapped(&place);
    a_policy_comes_and_goes(&place);
    pods_by_their_own_addresses_speak_the_same(&place);
    if kind == Kind::Culvert {
        says_why(&place);
    }
}

#[test]
fn culvert_opens_tls_to_endpoints() {
    opens_tls_to_endpoints(Kind::Culvert);
}

#[test]
fn envoy_opens_tls_to_endpoints() {
    opens_tls_to_endpoints(Kind::Envoy);
}
