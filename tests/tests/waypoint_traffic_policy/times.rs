//! How long things may take, and when is tried again.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use culvert_lab::ServiceSpec;
use culvert_tests::{
    http::{self, Head},
    lab,
    raw_http2::{Outcome, RawHttp2},
    slow_app,
    waypoint::Kind,
};
use serde_json::{Value, json};

use super::scene::{ATTEMPT, Scene, WEB, policy, port, route, service};

/// How long an answer may take that takes its time.
const LONG: Duration = Duration::from_secs(20);

impl Scene<'_> {
    /// Another Service in front of the slow application, with a policy.
    fn slow(&self, name: &str, spec: &Value) -> SocketAddr {
        let made = ServiceSpec::new("town", name)
            .port_object(port("http", 80, WEB + 2))
            .selector("app", "server")
            .label("culvert.dev/use-waypoint", "wp");
        let made = self.lab.service(made).unwrap();
        self.apply(&policy(name, &service(name), spec));
        SocketAddr::from((made.ip4(), 80))
    }

    /// What a request is answered, with so much of a body that should have 10 bytes.
    fn send(&self, to: SocketAddr, path: &str, header: &str, body: &str) -> (u16, String) {
        self.send_within(LONG, to, path, header, body)
    }

    fn send_within(&self, time: Duration, to: SocketAddr, path: &str, header: &str, body: &str) -> (u16, String) {
        let length = if body.is_empty() { 0 } else { 10 };
        let head = format!("POST {path} HTTP/1.1\r\nhost: slow.town\r\n{header}\r\ncontent-length: {length}");
        let asked = http::ask_with(&self.town.client, to, &head, body, time);
        let (head, body) = asked.unwrap_or((Head(Vec::new()), String::new()));
        (head.status().unwrap_or(0), body)
    }

    /// Until a request is answered like this.
    fn until(&self, to: SocketAddr, path: &str, header: &str, body: &str, answer: (u16, &str)) {
        let mut last = (0, String::new());
        self.wait(&format!("{path} to be answered {answer:?}"), &mut || {
            last = self.send_within(ATTEMPT, to, path, header, body);
            last == (answer.0, answer.1.to_owned())
        });
    }

    fn open(&self, to: SocketAddr, host: &str, path: &str) -> io::Result<TcpStream> {
        let mut stream = self.town.client.connect(to, ATTEMPT)?;
        stream.set_read_timeout(Some(LONG))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")?;
        Ok(stream)
    }

    /// All that comes until the connection ends, or the body does; whether it was the body.
    fn take(&self, to: SocketAddr, path: &str) -> (String, bool) {
        let mut stream = self.open(to, "slow.town", path).unwrap();
        let (mut all, mut some) = (Vec::new(), [0; 4096]);
        while !all.ends_with(b"0\r\n\r\n") {
            match stream.read(&mut some) {
                Ok(count @ 1..) => all.extend_from_slice(&some[..count]),
                _ => return (String::from_utf8_lossy(&all).into_owned(), false),
            }
        }
        (String::from_utf8_lossy(&all).into_owned(), true)
    }
}

fn keeps_time(kind: Kind) {
    let lab = lab(&format!("wp_times_{}", kind.word()));
    let scene = Scene::set(&lab, kind);
    let noted = slow_app::serve(&scene.town.server, WEB + 2);
    let timeouts = |name: &str, field: &str, time: &str| scene.slow(name, &json!({"timeouts": {(field): time}}));

    // A body that does not come in time, while whoever has sent all waits for its answer.
    let receive = timeouts("receive", "requestReceive", "1s");
    scene.until(receive, "/hang", "x-a: b", "half", (408, "request timeout"));
    assert_eq!(scene.send(receive, "/late", "x-a: b", ""), (200, "late".to_owned()));

    // Silence, before an answer and in it; what is slow and not silent goes on.
    let still = timeouts("still", "streamIdle", "1s");
    scene.until(still, "/hang", "x-a: b", "", (504, "stream timeout"));
    assert_eq!(
        scene.send(still, "/hang", "x-a: b", "half"),
        (408, "stream timeout".to_owned())
    );
    let (begun, is_whole) = scene.take(still, "/stuck");
    assert!(begun.contains("begin") && !is_whole, "{begun}");
    let (dripped, is_whole) = scene.take(still, "/drip");
    assert!(is_whole, "{dripped}");

    // An exchange as a whole, though its bytes still come.
    let short = timeouts("short", "streamDuration", "1s");
    scene.until(short, "/hang", "x-a: b", "", (504, "downstream duration timeout"));
    let (dripped, is_whole) = scene.take(short, "/drip");
    assert!(dripped.contains("begin") && !is_whole, "{dripped}");

    assert_eq!(
        scene.send(short, "/hang", "x-a: b", "half"),
        (408, "downstream duration timeout".to_owned())
    );

    // What a client asks for itself, up to a limit.
    let calls = timeouts("calls", "grpcTimeoutMax", "1s");
    scene.until(
        calls,
        "/hang",
        "grpc-timeout: 1H",
        "",
        (504, "downstream duration timeout"),
    );
    // Envoy tells endpoints of gRPC alone.
    let call = "grpc-timeout: 1H\r\ncontent-type: application/grpc";
    let (status, seen) = scene.send(calls, "/", call, "");
    assert!(status == 200 && seen.contains("grpc-timeout: 1000m"), "{status} {seen}");
    let head = format!("POST /hang HTTP/1.1\r\nhost: slow.town\r\n{call}\r\ncontent-length: 0");
    let (head, _) = http::ask_with(&scene.town.client, calls, &head, "", LONG).unwrap();
    assert_eq!(
        (head.status(), head.get("grpc-status")),
        (Some(200), Some("4")),
        "{head:?}"
    );
    assert_eq!(scene.send(calls, "/late", "x-a: b", ""), (200, "late".to_owned()));

    // A rule's own policy, for each time that it names, beside the Service's.
    scene.apply(&json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "short", "namespace": "town"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "short"}], "rules": [
            {"name": "own", "matches": [{"path": {"value": "/drip"}}], "backendRefs": [{"name": "short", "port": 80}]},
            {"backendRefs": [{"name": "short", "port": 80}]},
        ]},
    }));
    let any = json!({"timeouts": {"streamDuration": "0s"}});
    scene.apply(&policy("own", &route("short", Some("own")), &any));
    scene.wait("a rule's own time to hold", &mut || scene.take(short, "/drip").1);
    assert_eq!(
        scene.send(short, "/hang", "x-a: b", ""),
        (504, "downstream duration timeout".to_owned())
    );

    clients_and_endpoints(&scene, &noted);
    asks_again(&scene, &noted);
}

/// Connections without a request.
fn clients_and_endpoints(scene: &Scene<'_>, noted: &slow_app::Noted) {
    let idle = scene.slow("idle", &json!({"timeouts": {"clientIdle": "1s", "endpointIdle": "1s"}}));
    scene.wait("a client's connection to be closed, and an endpoint's", &mut || {
        let Ok(mut stream) = scene.open(idle, "idle.town", "/") else {
            return false;
        };
        let mut all = Vec::new();
        stream.read_to_end(&mut all).is_ok() && all.starts_with(b"HTTP/1.1 200") && noted.is_closed("idle.town")
    });
    // Not one with a request.
    let mut stream = scene.open(idle, "idle.town", "/late").unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert!(all.ends_with(b"late"), "{}", String::from_utf8_lossy(&all));
    let mut client = RawHttp2::dial(&scene.town.client, idle, &[], LONG).unwrap();
    assert_eq!(client.outcome(1), Outcome::GoAway(0));
}

/// An endpoint says when to come back.
fn asks_again(scene: &Scene<'_>, noted: &slow_app::Noted) {
    let again = scene.slow("again", &json!({"retry": {"retryAfterMax": "5s"}}));
    scene.apply(&json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "again", "namespace": "town"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "again"}], "rules": [{
            "filters": [{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "x-rule", "value": "again"}]}}],
            "retry": {"codes": [503], "attempts": 2, "backoff": "10ms"},
            "backendRefs": [{"name": "again", "port": 80}],
        }]},
    }));
    let lines = ["GET / HTTP/1.1", "host: slow.town"].map(str::to_owned);
    scene.wait("the rule to be in force", &mut || {
        let answer = http::ask(&scene.town.client, again, &lines, ATTEMPT);
        answer.is_ok_and(|(head, _)| head.get("x-rule") == Some("again"))
    });
    assert_eq!(scene.send(again, "/busy", "x-a: b", ""), (200, "free".to_owned()));
    let asked = noted.busy();
    assert_eq!(asked.len(), 2);
    let waited = asked[1] - asked[0];
    assert!(waited >= Duration::from_secs(1), "{waited:?}: no sooner than it says");
}

#[test]
fn culvert_keeps_time() {
    keeps_time(Kind::Culvert);
}

#[test]
fn envoy_keeps_time() {
    keeps_time(Kind::Envoy);
}
