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
    raw_http2::{Outcome, RawHttp2, request},
    raw_peer::{Frame, kind as frames},
    waypoint::Kind,
};
use serde_json::{Value, json};

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

/// A request over HTTP/2.
fn get(stream: u32, path: &str) -> Vec<u8> {
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "edge.town"),
    ];
    request(stream, true, &fields)
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
    // Over HTTP/2 the stream alone ends.
    let mut client = RawHttp2::dial(edge.client(), edge.to, &[], Duration::from_secs(5)).unwrap();
    client.send(&get(1, "/short")).unwrap();
    let found = [client.outcome(1), client.outcome(1)];
    client.send(&get(3, "/ok")).unwrap();
    if found != [Outcome::Status(200), Outcome::Reset(2)] || client.outcome(3) != Outcome::Status(200) {
        wrong.push(format!("short over HTTP/2: {found:?}"));
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

/// Has the waypoint do with all requests as a rule says.
fn route(edge: &Edge<'_>, rule: &Value) {
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": "edge", "namespace": "town" },
        "spec": { "parentRefs": [{ "group": "", "kind": "Service", "name": "edge" }], "rules": [rule] },
    });
    edge.scene.town.lab.apply(&route).unwrap();
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

    // An answer without an end is read as long as somebody wants it, and no longer. Envoy tells it at once, or after an hour, and what it
    // holds until then may fill the tunnel that other requests need: docs/waypoint-and-envoy.md.
    if kind == Kind::Culvert {
        let mut stream = edge.connect();
        stream
            .write_all(b"GET /endless HTTP/1.1\r\nhost: edge.town\r\n\r\n")
            .unwrap();
        let mut taken = vec![0; 1 << 20];
        stream.read_exact(&mut taken).unwrap();
        drop(stream);
        let told = wait_until("the application to be told that nobody reads on", PATIENCE, || {
            edge.noted.given_up() == 1
        });
        told.unwrap_or_else(|error| panic!("{}\n{error:#}", edge.scene.last_words()));
    }

    // One that does not come is not waited for longer than the route says.
    route(
        &edge,
        &json!({ "timeouts": { "request": "1s" }, "backendRefs": [{ "name": "edge", "port": 80 }] }),
    );
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

/// The client opens no window, or does not read at all.
fn who_takes_nothing_is_cut(kind: Kind) {
    let lab = lab(&format!("wp_takes_{}", kind.word()));
    let edge = Edge::set(&lab, kind);
    route(
        &edge,
        &json!({ "timeouts": { "request": "1s" }, "backendRefs": [{ "name": "edge", "port": 80 }] }),
    );
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/endless"),
        (":authority", "edge.town"),
    ];
    let mut came: Vec<Frame> = Vec::new();
    let reset = wait_until("a stream to be reset of which nothing is taken", PATIENCE, || {
        let mut client = RawHttp2::dial(edge.client(), edge.to, &[], Duration::from_secs(5)).unwrap();
        client.send(&request(1, true, &fields)).unwrap();
        came = std::iter::from_fn(|| client.next_frame()).collect();
        let is_there = |kind| came.iter().any(|frame| frame.kind == kind);
        is_there(frames::DATA) && is_there(frames::RST_STREAM)
    });
    let kinds = || came.iter().map(|frame| frame.kind).collect::<Vec<_>>();
    reset.unwrap_or_else(|error| panic!("{}\n{error:#}: {:?}", edge.scene.last_words(), kinds()));
    let reset = came.iter().find(|frame| frame.kind == frames::RST_STREAM);
    // CANCEL, INTERNAL_ERROR.
    let expected = if kind == Kind::Culvert { 8 } else { 2 };
    assert_eq!(reset.map(Frame::code), Some(expected));
    if kind == Kind::Envoy {
        return;
    }
    // What Envoy tells the application is in docs/waypoint-and-envoy.md.
    let asked = edge.noted.under("/endless").len();
    let mut stream = edge.connect();
    stream
        .write_all(b"GET /endless HTTP/1.1\r\nhost: edge.town\r\n\r\n")
        .unwrap();
    let told = wait_until("the application to be told that all were cut", PATIENCE, || {
        let all = edge.noted.under("/endless").len();
        all > asked && edge.noted.given_up() == all
    });
    told.unwrap_or_else(|error| panic!("{}\n{error:#}", edge.scene.last_words()));
    drop(stream);
}

#[test]
fn culvert_cuts_a_client_that_takes_nothing_of_its_answer_at_the_routes_limit() {
    who_takes_nothing_is_cut(Kind::Culvert);
}

#[test]
fn envoy_cuts_a_client_that_takes_nothing_of_its_answer_at_the_routes_limit() {
    who_takes_nothing_is_cut(Kind::Envoy);
}

/// What a route says of answers that are begun, and of requests that are not complete.
fn half_an_exchange_is_as_the_route_says(kind: Kind) {
    let lab = lab(&format!("wp_halves_{}", kind.word()));
    let edge = Edge::set(&lab, kind);
    route(
        &edge,
        &json!({
            "timeouts": { "request": "1s" },
            "retry": { "attempts": 1, "codes": [403], "backoff": "10ms" },
            "backendRefs": [{ "name": "edge", "port": 80 }],
        }),
    );
    let mut last = String::new();
    let waited = wait_until("the route to be in force", PATIENCE, || {
        last = ask(&edge, edge.client(), "hang");
        last == "504, 200 ok"
    });
    waited.unwrap_or_else(|error| panic!("{}\n{error:#}: {last}", edge.scene.last_words()));

    // An answer that does not go on is cut, which over HTTP/2 ends the stream alone.
    assert_eq!(ask(&edge, edge.client(), "stall"), "cut");
    let mut client = RawHttp2::dial(edge.client(), edge.to, &[], Duration::from_secs(5)).unwrap();
    client.send(&get(1, "/stall")).unwrap();
    let found = [client.outcome(1), client.outcome(1)];
    assert_eq!(found, [Outcome::Status(200), Outcome::Reset(2)]);
    client.send(&get(3, "/ok")).unwrap();
    assert_eq!(client.outcome(3), Outcome::Status(200));

    // What is to be tried again is so at once, though the client has not sent all of it.
    let mut stream = edge.connect();
    let head = "POST /early/again HTTP/1.1\r\nhost: edge.town\r\ncontent-length: 60\r\n\r\nhalf";
    stream.write_all(head.as_bytes()).unwrap();
    let early = answer(&mut BufReader::new(stream)).unwrap().unwrap();
    assert_eq!(early, (403, "early".to_owned()), "{}", edge.scene.last_words());
    assert_eq!(edge.noted.under("/early/again").len(), 2);
    edge.assert_none_smuggled();
}

#[test]
fn culvert_does_with_half_an_exchange_as_the_route_says() {
    half_an_exchange_is_as_the_route_says(Kind::Culvert);
}

#[test]
fn envoy_does_with_half_an_exchange_as_the_route_says() {
    half_an_exchange_is_as_the_route_says(Kind::Envoy);
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
