//! Applications behind a waypoint that answer badly: a client gets the answer to its own request, or a refusal that says why, and
//! never what was meant for somebody else.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    io::{BufReader, Read as _, Write as _},
    time::Duration,
};

use culvert_lab::{Pod, wait_until};
use culvert_tests::{
    PATIENCE,
    edge::{Edge, answer},
    lab,
    waypoint::Kind,
};
use serde_json::json;

/// One answer, and what the next request over the same connection gets.
fn ask(edge: &Edge<'_>, from: &Pod, way: &str) -> String {
    let mut stream = edge.connect_from(from);
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut found = Vec::new();
    for target in [format!("/{way}/one"), "/ok".to_owned()] {
        let sent = write!(stream, "GET {target} HTTP/1.1\r\nhost: edge.town\r\n\r\n");
        found.push(match sent.and_then(|()| answer(&mut reader)) {
            Ok(Some((status, body))) if status == 200 => format!("{status} {body}"),
            Ok(Some((status, _))) => status.to_string(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => "silence".to_owned(),
            // How a connection is cut is left to TCP.
            Ok(None) | Err(_) => "cut".to_owned(),
        });
        if found.last().is_some_and(|last| last == "cut") {
            break;
        }
    }
    found.join(", ")
}

fn each_gets_its_own_answer(kind: Kind) {
    let lab = lab(&format!("wp_badup_{}", kind.word()));
    let edge = Edge::set(&lab, kind);
    let own = "200 ok, 200 ok";
    let mut wrong = Vec::new();
    for (way, culvert, envoy) in [
        ("ok", own, own),
        ("second", own, own),
        ("interim", own, own),
        ("garbage", "502, 200 ok", "502, 200 ok"),
        ("differing", "502, 200 ok", "502, 200 ok"),
        ("both", "502, 200 ok", "502, 200 ok"),
        ("folded", "502, 200 ok", own),
        ("huge", "502, 200 ok", "502, 200 ok"),
        ("short", "cut", "cut"),
        ("badchunk", "cut", "cut"),
        ("reset", "503, 200 ok", "503, 200 ok"),
    ] {
        // Often, since what is left over may come before or after the next request.
        for _ in 0..20 {
            let found = ask(&edge, edge.client(), way);
            let expected = if kind == Kind::Culvert { culvert } else { envoy };
            if found != expected {
                wrong.push(format!("{way}: {found:?}, not {expected:?}"));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", edge.scene.last_words(), wrong.join("\n"));
    edge.assert_none_smuggled();
}

#[test]
fn culvert_gives_each_client_its_own_answer_whatever_applications_send() {
    each_gets_its_own_answer(Kind::Culvert);
}

#[test]
fn envoy_gives_each_client_its_own_answer_whatever_applications_send() {
    each_gets_its_own_answer(Kind::Envoy);
}

/// Applications that do not do their part in time, or do too much.
fn nothing_is_waited_for_forever(kind: Kind) {
    let lab = lab(&format!("wp_stuck_{}", kind.word()));
    let edge = Edge::set(&lab, kind);

    // An answer before the request is complete goes to the client at once; the rest of the body is no request.
    let mut stream = edge.connect();
    let head = "POST /early HTTP/1.1\r\nhost: edge.town\r\ncontent-length: 60\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let early = answer(&mut reader).unwrap().unwrap();
    assert_eq!(early, (403, "early".to_owned()), "{}", edge.scene.last_words());
    let _ = stream.write_all(b"GET /smuggled HTTP/1.1\r\nhost: edge.town\r\n\r\n");
    drop((stream, reader));

    // An answer without an end is read as long as somebody wants it, and no longer.
    let mut stream = edge.connect();
    stream
        .write_all(b"GET /endless HTTP/1.1\r\nhost: edge.town\r\n\r\n")
        .unwrap();
    let mut taken = vec![0; 1 << 20];
    stream.read_exact(&mut taken).unwrap();
    drop(stream);
    // Envoy tells it at once, or after an hour: docs/waypoint-and-envoy.md.
    if kind == Kind::Culvert {
        let told = wait_until("the application to be told that nobody reads on", PATIENCE, || {
            edge.noted.given_up() == 1
        });
        told.unwrap_or_else(|error| panic!("{}\n{error:#}", edge.scene.last_words()));
    }

    // One that does not come is not waited for longer than the route says.
    lab.apply(&json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": "edge", "namespace": "town" },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "edge" }],
            "rules": [{ "timeouts": { "request": "1s" }, "backendRefs": [{ "name": "edge", "port": 80 }] }],
        },
    }))
    .unwrap();
    let mut last = String::new();
    let waited = wait_until("a stuck application to be answered for", PATIENCE, || {
        last = ask(&edge, edge.client(), "hang");
        last == "504, 200 ok"
    });
    waited.unwrap_or_else(|error| panic!("{}\n{error:#}: {last}", edge.scene.last_words()));
    edge.assert_none_smuggled();
}

#[test]
fn culvert_waits_for_no_application_forever() {
    nothing_is_waited_for_forever(Kind::Culvert);
}

#[test]
fn envoy_waits_for_no_application_forever() {
    nothing_is_waited_for_forever(Kind::Envoy);
}

fn clients_read_nothing(kind: Kind) {
    let lab = lab(&format!("wp_slowreader_{}", kind.word()));
    let edge = Edge::set(&lab, kind);
    let waypoint = edge.scene.waypoint.process.pid();
    let before = culvert_tests::memory::resident(waypoint);
    // Each asks for an answer without an end, and reads none of it.
    let clients: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = edge.connect();
            stream
                .write_all(b"GET /endless HTTP/1.1\r\nhost: edge.town\r\n\r\n")
                .unwrap();
            stream
        })
        .collect();
    wait_until("all to be asked for", PATIENCE, || {
        edge.noted.under("/endless").len() == 50
    })
    .unwrap();
    // What others ask the same application for meanwhile is answered, over the same tunnel.
    for _ in 0..100 {
        let found = ask(&edge, &edge.scene.guest, "ok");
        assert_eq!(found, "200 ok, 200 ok", "{}", edge.scene.last_words());
    }
    let grown = culvert_tests::memory::resident(waypoint).saturating_sub(before);
    println!("{} KiB more for 50 clients that read nothing", grown >> 10);
    if kind == Kind::Envoy {
        // It tells applications at once, or after an hour: docs/waypoint-and-envoy.md.
        return;
    }
    // A window of the tunnel, and what hyper has read.
    assert!(grown < 50 * (3 << 20), "{} MiB more", grown >> 20);
    drop(clients);
    wait_until("the application to be told", Duration::from_secs(60), || {
        edge.noted.given_up() == 50
    })
    .unwrap();
}

#[test]
fn a_client_that_reads_nothing_of_culvert_holds_up_nobody_and_costs_no_memory() {
    clients_read_nothing(Kind::Culvert);
}

#[test]
fn a_client_that_reads_nothing_of_envoy_holds_up_nobody() {
    clients_read_nothing(Kind::Envoy);
}
