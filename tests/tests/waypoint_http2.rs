//! HTTP/2 on both sides of a waypoint: what clients are told, and what of a request and of its end an application with HTTP/2 sees.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{net::SocketAddr, time::Duration};

use culvert_lab::wait_until;
use culvert_tests::{
    PATIENCE,
    h2_app::H2App,
    lab,
    raw_http2::{Outcome, RawHttp2, request},
    raw_peer::{ACK, frame, kind},
    scene::{Scene, service},
    town::PORT,
    waypoint::Kind,
};

/// How long an answer may take.
const ATTEMPT: Duration = Duration::from_secs(5);

/// SETTINGS_MAX_CONCURRENT_STREAMS and SETTINGS_INITIAL_WINDOW_SIZE.
const STREAMS: u16 = 3;
const WINDOW: u16 = 4;
/// CANCEL and INTERNAL_ERROR.
const CANCEL: u32 = 8;
const INTERNAL: u32 = 2;

fn get(scheme: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let fields = [
        (":method", "GET"),
        (":scheme", scheme),
        (":path", path),
        (":authority", "two.town"),
    ];
    request(1, true, &[&fields, more].concat())
}

/// What the waypoint allows a client: streams at once, and the windows of a stream and of the connection.
fn allowed(client: &mut RawHttp2) -> [u32; 3] {
    // Before anything is said of windows.
    let mut found = [u32::MAX, 65_535, 65_535];
    while let Some(frame) = client.next_frame() {
        match frame.kind {
            kind::SETTINGS if frame.flags & ACK == 0 => {
                for entry in frame.payload.chunks_exact(6) {
                    let value = u32::from_be_bytes(entry[2..].try_into().unwrap());
                    match u16::from_be_bytes([entry[0], entry[1]]) {
                        STREAMS => found[0] = value,
                        WINDOW => found[1] = value,
                        _ => {}
                    }
                }
            }
            kind::WINDOW_UPDATE if frame.stream == 0 => found[2] += frame.code(),
            _ => {}
        }
        if found[0] != u32::MAX && found[2] != 65_535 {
            break;
        }
    }
    found
}

fn speaks_http2(kind: Kind) {
    let lab = lab(&format!("wp_http2_{}", kind.word()));
    let scene = Scene::set(&lab, kind);
    let app = H2App::serve(&scene.town.server, PORT + 9);
    let two = service("two", "server", PORT + 9, "kubernetes.io/h2c").label("culvert.dev/use-waypoint", "wp");
    let two = SocketAddr::from((lab.service(two).unwrap().ip4(), 80));
    let dial = || RawHttp2::dial(&scene.town.client, two, &[], ATTEMPT).unwrap();
    let ask = |bytes: &[u8]| {
        let mut client = dial();
        client.send(bytes).unwrap();
        client.outcome(1)
    };
    let waited = wait_until("the application to be asked", PATIENCE, || {
        ask(&get("http", "/ready", &[])) == Outcome::Status(200)
    });
    waited.unwrap_or_else(|error| panic!("{}\n{error:#}", scene.last_words()));

    // It is bound what a client that reads slowly can make the waypoint hold.
    let expected = match kind {
        Kind::Culvert => [1024, 256 << 10, 1 << 20],
        _ => [1024, 16 << 20, 24 << 20],
    };
    assert_eq!(allowed(&mut dial()), expected);

    // What a client says of its own request counts before what a proxy before it says; of HTTP/1 that is all there is.
    for (path, scheme, forwarded, seen) in [
        ("/plain", "http", None, "http"),
        ("/said", "https", None, "https"),
        ("/forwarded", "http", Some("https"), "http"),
    ] {
        let more: Vec<_> = forwarded
            .map(|value| ("x-forwarded-proto", value))
            .into_iter()
            .collect();
        assert_eq!(
            ask(&get(scheme, path, &more)),
            Outcome::Status(200),
            "{path}\n{}",
            scene.last_words()
        );
        assert_eq!(app.schemes(path), [seen], "{path}");
    }

    // Who does not want its answer any more.
    let mut client = dial();
    client.send(&get("http", "/hang", &[])).unwrap();
    wait_until("the application to be asked", PATIENCE, || {
        app.schemes("/hang").len() == 1
    })
    .unwrap();
    client
        .send(&frame(kind::RST_STREAM, 0, 1, &CANCEL.to_be_bytes()))
        .unwrap();
    wait_until("the application to be told", PATIENCE, || app.resets().len() == 1).unwrap();
    // Envoy says so of every stream that it gives up.
    let told = if kind == Kind::Culvert { CANCEL } else { INTERNAL };
    assert_eq!(app.resets(), [told]);
}

#[test]
fn culvert_speaks_http2_with_clients_and_applications() {
    speaks_http2(Kind::Culvert);
}

#[test]
fn envoy_speaks_http2_with_clients_and_applications() {
    speaks_http2(Kind::Envoy);
}
