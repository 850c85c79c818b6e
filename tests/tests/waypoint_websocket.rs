//! WebSocket through a waypoint, where client and application speak the same version of HTTP and where they do not.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    io::{BufReader, Read as _, Write as _},
    net::SocketAddr,
    time::Duration,
};

use culvert_lab::{Pod, wait_until};
use culvert_tests::{
    PATIENCE, app,
    http::{Head, read_head},
    lab,
    scene::{Scene, service},
    town::PORT,
    waypoint::Kind,
    websocket,
};

/// How long an answer may take.
const ATTEMPT: Duration = Duration::from_secs(5);

/// The key of RFC 6455's example, and its answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What a client with HTTP/1.1 is answered, and its bytes, which come back.
fn by_http1(from: &Pod, to: SocketAddr, host: &str, key: &str) -> std::io::Result<(Head, Vec<u8>)> {
    let mut stream = from.connect(to, ATTEMPT)?;
    stream.set_read_timeout(Some(ATTEMPT))?;
    write!(
        stream,
        "GET /chat HTTP/1.1\r\nhost: {host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-key: {KEY}\r\nsec-websocket-version: 13\r\nx-key: {key}\r\n\r\n"
    )?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let head = read_head(&mut reader)?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let mut back = Vec::new();
    if head.status() == Some(101) {
        stream.write_all(b"ping")?;
        back.resize(4, 0);
        reader.read_exact(&mut back)?;
    }
    Ok((head, back))
}

fn carries_websocket(kind: Kind) {
    let lab = lab(&format!("wp_websocket_{}", kind.word()));
    let _server;
    let scene = Scene::set(&lab, kind);
    _server = websocket::serve(&scene.town.server, PORT + 9);
    let two = service("two", "server", PORT + 9, "kubernetes.io/h2c").label("culvert.dev/use-waypoint", "wp");
    let two = SocketAddr::from((lab.service(two).unwrap().ip4(), 80));
    let client = &scene.town.client;
    let mut last = String::new();
    let waited = wait_until("both Services to be behind the waypoint", PATIENCE, || {
        let ready = [(scene.web, "web.town"), (two, "two.town")].map(|(to, host)| by_http1(client, to, host, "ready"));
        last = format!("{ready:?}");
        let through = |seen: &app::Arrival| seen.head.get("x-request-id").is_some();
        ready
            .iter()
            .all(|answer| answer.as_ref().is_ok_and(|(head, _)| head.status() == Some(101)))
            && scene.seen.with_key("ready").iter().any(through)
    });
    waited.unwrap_or_else(|error| panic!("{}\n{error:#}: {last}", scene.last_words()));

    // The client has HTTP/1.1.
    let (head, back) = by_http1(client, scene.web, "web.town", "one-one").unwrap();
    assert_eq!(
        (head.get("upgrade"), back),
        (Some("websocket"), b"ping".to_vec()),
        "{head:?}"
    );
    let (head, back) = by_http1(client, two, "two.town", "one-two").unwrap();
    assert_eq!((head.get("x-app"), back), (Some("ws2"), b"ping".to_vec()), "{head:?}");
    if kind == Kind::Culvert {
        // Envoy leaves the client without the proof that it has to ask for (RFC 6455 section 4.1).
        assert_eq!(head.get("sec-websocket-accept"), Some(ACCEPT), "{head:?}");
    }

    // The client has HTTP/2.
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    for (to, host, app, key) in [
        (scene.web, "web.town", "web", "two-one"),
        (two, "two.town", "ws2", "two-two"),
    ] {
        let reply = websocket::ask(
            client,
            to,
            &format!("http://{host}/chat"),
            (key, "200"),
            &bytes,
            ATTEMPT,
        );
        let reply = reply.unwrap_or_else(|error| panic!("{key}: {error}\n{}", scene.last_words()));
        assert_eq!(reply.status, 200, "{key}: {:?}\n{}", reply.headers, scene.last_words());
        assert_eq!(reply.headers["x-app"], app);
        assert!(reply.back == bytes, "{key}: {} bytes came back", reply.back.len());
    }
    let seen = scene.seen.with_key("two-one");
    assert_eq!(seen[0].head.first(), "GET /chat HTTP/1.1");
    assert_eq!(seen[0].head.get("upgrade"), Some("websocket"));
    if kind == Kind::Culvert {
        // Envoy sends none, and a server refuses that (RFC 6455 section 4.2.1).
        assert!(seen[0].head.get("sec-websocket-key").is_some(), "{seen:?}");
    }
    for (answer, culvert, envoy) in [("403", 403, 403), ("202", 502, 202)] {
        // A success of an application that changes nothing would tell a client with HTTP/2 that it had.
        let reply = websocket::ask(
            client,
            scene.web,
            "http://web.town/chat",
            (answer, answer),
            b"",
            ATTEMPT,
        );
        let expected = if kind == Kind::Culvert { culvert } else { envoy };
        assert_eq!(reply.unwrap().status, expected, "{}", scene.last_words());
    }
}

#[test]
fn culvert_carries_websocket_between_versions_of_http() {
    carries_websocket(Kind::Culvert);
}

#[test]
fn envoy_carries_websocket_between_versions_of_http() {
    carries_websocket(Kind::Envoy);
}
