//! What goes through a waypoint beside HTTP/1.1 requests: WebSocket, clients with HTTP/2, and gRPC with its trailers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    io::{BufReader, Read as _, Write as _},
    net::SocketAddr,
    process::Command,
    time::Duration,
};

use culvert_lab::wait_until;
use culvert_tests::{
    PATIENCE, app, grpc,
    http::{self, read_head},
    lab,
    scene::{Scene, service},
    town::PORT,
    waypoint::Kind,
};
use serde_json::json;

/// How long an answer may take.
const ATTEMPT: Duration = Duration::from_secs(20);

fn carries_other_protocols(kind: Kind) {
    let lab = lab(&format!("wp_protocols_{}", kind.word()));
    let _server;
    let scene = Scene::set(&lab, kind);
    _server = grpc::serve(&scene.town.server, PORT + 8, "books");
    let books = service("books", "server", PORT + 8, "grpc").label("culvert.dev/use-waypoint", "wp");
    let books = SocketAddr::from((lab.service(books).unwrap().ip4(), 80));
    let client = &scene.town.client;
    lab.apply(&json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GRPCRoute",
        "metadata": { "name": "books", "namespace": "town" },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "books" }],
            "rules": [{
                "matches": [{ "method": { "service": "shop.Books" } }],
                "backendRefs": [{ "name": "books", "port": 80 }],
            }],
        },
    }))
    .unwrap();

    // Through the waypoint at last, which is seen by what it adds.
    let lines = ["GET / HTTP/1.1", "host: web.town", "x-key: ready"].map(str::to_owned);
    let waited = wait_until("requests to go through the waypoint", PATIENCE, || {
        let answer = http::ask(client, scene.web, &lines, ATTEMPT);
        let through = scene
            .seen
            .with_key("ready")
            .iter()
            .any(|arrival| arrival.head.get("x-request-id").is_some());
        answer.is_ok_and(|(head, _)| head.status() == Some(200)) && through
    });
    waited.unwrap_or_else(|error| panic!("{}\n{error:#}", scene.last_words()));

    // Whoever is to close first has all of the answer arrive, and then an end.
    let mut stream = client.connect(scene.web, ATTEMPT).unwrap();
    stream.set_read_timeout(Some(ATTEMPT)).unwrap();
    let head = "GET /last HTTP/1.1\r\nhost: web.town\r\nconnection: close\r\nx-key: last\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut whole = String::new();
    stream.read_to_string(&mut whole).unwrap();
    assert!(whole.starts_with("HTTP/1.1 200 "), "{whole}");

    // WebSocket: bytes go both ways once both sides have agreed.
    let mut stream = client.connect(scene.web, ATTEMPT).unwrap();
    stream.set_read_timeout(Some(ATTEMPT)).unwrap();
    let head = "GET /chat HTTP/1.1\r\nhost: web.town\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\nx-key: chat\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let answer = read_head(&mut reader).unwrap().expect("an answer");
    assert_eq!(answer.status(), Some(101), "{answer:?}");
    for round in 0..3_u8 {
        let sent = [round; 5];
        stream.write_all(&sent).unwrap();
        let mut back = [0xff; 5];
        reader.read_exact(&mut back).unwrap();
        assert_eq!(back, sent);
    }

    // HTTP/1.0, which old clients speak; the oldest name no host. No chunks come back, and the application need not know.
    for (key, host, seen_host) in [
        ("old", None, "web.town.svc.cluster.local"),
        ("named", Some("host: web.town"), "web.town"),
    ] {
        let mut lines = vec!["GET / HTTP/1.0".to_owned(), format!("x-key: {key}")];
        lines.extend(host.map(str::to_owned));
        let (head, _) = http::ask(client, scene.web, &lines, ATTEMPT).unwrap();
        assert_eq!(head.status(), Some(200), "{head:?}\n{}", scene.last_words());
        assert!(head.first().starts_with("HTTP/1.0 "), "{head:?}");
        assert!(head.get("transfer-encoding").is_none(), "{head:?}");
        let seen = scene.seen.with_key(key);
        assert_eq!(seen[0].head.first(), "GET / HTTP/1.1");
        assert_eq!(seen[0].head.get("host"), Some(seen_host));
    }

    // HTTP/2 without TLS, from a client that knows of it.
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--http2-prior-knowledge",
        "--max-time",
        "20",
    ])
    .args(["--write-out", " %{http_version} %{http_code}", "--header", "x-key: h2"])
    .args(["--header", &format!("{}: 200", app::ANSWERS)])
    .arg(format!("http://{}/two", scene.web));
    let output = client.output(&mut curl).unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        printed,
        "web 2 200",
        "{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        scene.last_words()
    );
    let seen = scene.seen.with_key("h2");
    assert_eq!(seen[0].head.first(), "GET /two HTTP/1.1");

    // gRPC: the status is in trailers, and a call that no rule is for gets one, too.
    let mut last = String::new();
    let waited = wait_until("the GRPCRoute to be in force", PATIENCE, || {
        let reply = grpc::call(client, books, "/shop.Other/Get", ATTEMPT);
        last = format!("{reply:?}");
        reply.is_ok_and(|reply| reply.headers.get("grpc-status").is_some_and(|status| status == "12"))
    });
    waited.unwrap_or_else(|error| panic!("{}\n{error:#}: {last}", scene.last_words()));
    let reply = grpc::call(client, books, "/shop.Books/Get", ATTEMPT).unwrap();
    assert_eq!(
        (reply.status, reply.message.as_slice()),
        (200, b"books".as_slice()),
        "{reply:?}"
    );
    let trailers = reply.trailers.expect("trailers");
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["x-trailer"], "books");
    // A status that comes behind messages is no reason to try again.
    let reply = grpc::call(client, books, "/shop.Books/Unavailable", ATTEMPT).unwrap();
    let trailers = reply.trailers.expect("trailers");
    assert_eq!(
        (&trailers["grpc-status"], &trailers["x-attempt"]),
        (&"14".parse().unwrap(), &"1".parse().unwrap())
    );
}

#[test]
fn culvert_carries_websocket_http2_and_grpc_with_trailers() {
    carries_other_protocols(Kind::Culvert);
}

#[test]
fn envoy_carries_websocket_http2_and_grpc_with_trailers() {
    carries_other_protocols(Kind::Envoy);
}
