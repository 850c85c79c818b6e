//! Clients that ask for more than a waypoint gives, by the number of their requests or by what HTTP/2 makes cheap for them: what is
//! beyond a limit is refused and counted, and others notice nothing.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    io::{BufReader, Write as _},
    time::{Duration, Instant},
};

use culvert_lab::{Pod, wait_until};
use culvert_tests::{
    PATIENCE,
    edge::{Edge, answer},
    http, lab,
    memory::resident,
    raw_http2::{RawHttp2, request},
    raw_peer::{END_STREAM, block, frame, kind, window_update},
    waypoint::Kind,
};

/// How long one answer may take.
const ATTEMPT: Duration = Duration::from_secs(5);

/// What a waypoint may have in memory beyond what it had before a flood.
const MOST_GROWTH: u64 = 64 << 20;

/// SETTINGS_INITIAL_WINDOW_SIZE.
const INITIAL_WINDOW: u16 = 4;

fn status(edge: &Edge<'_>, from: &Pod) -> Option<u16> {
    let mut stream = edge.try_connect_from(from).ok()?;
    write!(stream, "GET /ok HTTP/1.1\r\nhost: edge.town\r\n\r\n").ok()?;
    let (status, _) = answer(&mut BufReader::new(stream)).ok()??;
    Some(status)
}

fn get(stream: u32, ends: bool, path: &str) -> Vec<u8> {
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "edge.town"),
    ];
    request(stream, ends, &fields)
}

/// What one client sends again and again; the number says how often it did.
type Flood = fn(u32) -> Vec<u8>;

fn floods() -> Vec<(&'static str, Flood)> {
    vec![
        ("streams that are reset at once", |n| {
            let reset = |id| {
                [
                    get(id, true, "/ok"),
                    frame(kind::RST_STREAM, 0, id, &8_u32.to_be_bytes()),
                ]
                .concat()
            };
            (0..50).flat_map(|k| reset(1 + 2 * (50 * n + k))).collect()
        }),
        ("streams that make no sense", |n| {
            let bad = |id| request(id, true, &[(":method", "GET"), (":scheme", "http"), (":path", "")]);
            (0..50).flat_map(|k| bad(1 + 2 * (50 * n + k))).collect()
        }),
        ("streams that never end", |n| {
            (0..50).flat_map(|k| get(1 + 2 * (50 * n + k), false, "/ok")).collect()
        }),
        ("a head without an end", |n| match n {
            0 => frame(kind::HEADERS, END_STREAM, 1, &block(&[(":method", "GET")])),
            _ => frame(kind::CONTINUATION, 0, 1, &block(&[("x-a", &"b".repeat(100))])),
        }),
        ("a head in empty pieces", |n| match n {
            0 => frame(kind::HEADERS, END_STREAM, 1, &[]),
            _ => frame(kind::CONTINUATION, 0, 1, &[]).repeat(100),
        }),
        ("SETTINGS", |_| frame(kind::SETTINGS, 0, 0, &[]).repeat(100)),
        ("PING", |_| frame(kind::PING, 0, 0, &[7; 8]).repeat(100)),
        ("window", |n| match n {
            0 => get(1, false, "/ok"),
            _ => window_update(1, 1).repeat(100),
        }),
        ("empty DATA", |n| match n {
            0 => get(1, false, "/ok"),
            _ => frame(kind::DATA, 0, 1, &[]).repeat(100),
        }),
        ("PRIORITY", |_| {
            frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 1]).repeat(100)
        }),
        ("frames of no known type", |_| frame(0x7f, 0, 0, &[0; 8]).repeat(100)),
    ]
}

fn floods_of_http2_inside_a_tunnel(kind: Kind) {
    let lab = lab(&format!("wp_floods_{}", kind.word()));
    let edge = Edge::set(&lab, kind);
    let waypoint = edge.scene.waypoint.process.pid();
    let mut wrong = Vec::new();
    for (name, flood) in floods() {
        let before = resident(waypoint);
        let ended = std::thread::scope(|scope| {
            let flooding = scope.spawn(|| {
                let mut client = RawHttp2::dial(edge.client(), edge.to, &[], ATTEMPT).unwrap();
                let begun = Instant::now();
                for n in 0..u32::MAX {
                    if client.send(&flood(n)).is_err() {
                        return format!("cut off or held back after {n} times");
                    }
                    if begun.elapsed() > Duration::from_secs(3) {
                        return format!("carried {n} times in 3 s");
                    }
                }
                unreachable!("that many do not fit into 3 s");
            });
            while !flooding.is_finished() {
                let found = status(&edge, &edge.scene.guest);
                if found != Some(200) {
                    wrong.push(format!("{name}: another client gets {found:?}"));
                    break;
                }
            }
            flooding.join().unwrap()
        });
        let grown = resident(waypoint).saturating_sub(before);
        println!("{name}: {ended}, {} KiB more", grown >> 10);
        // What Envoy holds is its own matter.
        if kind == Kind::Culvert && grown > MOST_GROWTH {
            wrong.push(format!("{name}: {} MiB more", grown >> 20));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", edge.scene.last_words(), wrong.join("\n"));
    assert_eq!(status(&edge, edge.client()), Some(200));
    edge.assert_none_smuggled();
}

#[test]
fn floods_of_http2_inside_a_tunnel_hurt_nobody_at_culvert() {
    floods_of_http2_inside_a_tunnel(Kind::Culvert);
}

#[test]
fn floods_of_http2_inside_a_tunnel_hurt_nobody_at_envoy() {
    floods_of_http2_inside_a_tunnel(Kind::Envoy);
}

fn windows_stay_shut(kind: Kind) {
    let lab = lab(&format!("wp_windows_{}", kind.word()));
    let edge = Edge::set(&lab, kind);
    let waypoint = edge.scene.waypoint.process.pid();
    let before = resident(waypoint);
    let mut client = RawHttp2::dial(edge.client(), edge.to, &[(INITIAL_WINDOW, 0)], ATTEMPT).unwrap();
    for n in 0..50 {
        client.send(&get(1 + 2 * n, true, "/endless")).unwrap();
    }
    wait_until("all to be asked for", PATIENCE, || {
        edge.noted.under("/endless").len() == 50
    })
    .unwrap();
    for from in [&edge.scene.guest, edge.client()] {
        for _ in 0..50 {
            assert_eq!(status(&edge, from), Some(200), "{}", edge.scene.last_words());
        }
    }
    let grown = resident(waypoint).saturating_sub(before);
    println!("{} KiB more for 50 answers behind a shut window", grown >> 10);
    drop(client);
    if kind == Kind::Envoy {
        // It tells applications at once, or after an hour: docs/waypoint-and-envoy.md.
        return;
    }
    assert!(grown < 50 * (3 << 20), "{} MiB more", grown >> 20);
    wait_until("the application to be told", Duration::from_secs(60), || {
        edge.noted.given_up() == 50
    })
    .unwrap();
}

#[test]
fn windows_that_stay_shut_hold_up_their_own_answers_alone_at_culvert() {
    windows_stay_shut(Kind::Culvert);
}

#[test]
fn windows_that_stay_shut_hold_up_their_own_answers_alone_at_envoy() {
    windows_stay_shut(Kind::Envoy);
}

fn clients_send_slowly(kind: Kind) {
    let lab = lab(&format!("wp_slow_{}", kind.word()));
    let edge = Edge::set(&lab, kind);
    let half = [
        "GET /ok HTT",
        "POST /ok HTTP/1.1\r\nhost: edge.town\r\ncontent-length: 100\r\n\r\nsome",
    ];
    let slow: Vec<_> = (0..200)
        .map(|n| {
            let mut stream = edge.connect();
            stream.write_all(half[n % 2].as_bytes()).unwrap();
            stream
        })
        .collect();
    for _ in 0..50 {
        assert_eq!(
            status(&edge, &edge.scene.guest),
            Some(200),
            "{}",
            edge.scene.last_words()
        );
        assert_eq!(status(&edge, edge.client()), Some(200), "{}", edge.scene.last_words());
    }
    drop(slow);
    // None of the bodies was whole, so the application has seen no such request.
    assert_eq!(status(&edge, edge.client()), Some(200));
    assert!(
        edge.noted
            .under("/ok")
            .iter()
            .all(|request| request.line.starts_with("GET "))
    );
    edge.assert_none_smuggled();
}

#[test]
fn clients_that_send_slowly_hold_up_nobody_at_culvert_and_are_not_waited_for_where_they_end() {
    clients_send_slowly(Kind::Culvert);
}

#[test]
fn clients_that_send_slowly_hold_up_nobody_at_envoy_and_are_not_waited_for_where_they_end() {
    clients_send_slowly(Kind::Envoy);
}

fn metric(edge: &Edge<'_>, name: &str, label: &str) -> u64 {
    let page = http::page(edge.scene.waypoint.place.pod(), 15020, "/metrics").unwrap();
    let of = |line: &str| -> Option<u64> {
        let (series, value) = line.rsplit_once(' ')?;
        (series.starts_with(name) && series.contains(label)).then(|| value.parse().ok())?
    };
    page.lines().filter_map(of).sum()
}

/// Starts the waypoint of a scene anew, on one thread and with less room.
fn restart(edge: &mut Edge<'_>, arguments: &[&str]) {
    let waypoint = &mut edge.scene.waypoint;
    waypoint.process.kill().unwrap();
    let arguments = [&["--threads", "1"], arguments].concat();
    let place = &waypoint.place.0;
    waypoint.process = place.start_with(&edge.scene.town.mesh, &arguments).unwrap();
    place.wait_open(&waypoint.process, PATIENCE).unwrap();
    let waited = wait_until("requests to be answered again", PATIENCE, || {
        status(edge, edge.client()) == Some(200)
    });
    waited.unwrap_or_else(|error| panic!("{}\n{error:#}", edge.scene.last_words()));
}

#[test]
fn what_is_beyond_a_waypoints_limits_is_answered_503_and_counted() {
    let lab = lab("wp_limits");
    let mut edge = Edge::set(&lab, Kind::Culvert);

    restart(&mut edge, &["--requests-limit", "4"]);
    let stuck: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = edge.connect();
            stream
                .write_all(b"GET /hang HTTP/1.1\r\nhost: edge.town\r\n\r\n")
                .unwrap();
            stream
        })
        .collect();
    wait_until("all to be under way", PATIENCE, || edge.noted.under("/hang").len() == 4).unwrap();
    for from in [edge.client(), &edge.scene.guest] {
        assert_eq!(status(&edge, from), Some(503), "{}", edge.scene.last_words());
    }
    let refused = |edge: &Edge<'_>| metric(edge, "istio_requests_total", "response_flags=\"UO\"");
    let _ = wait_until("both to be counted", PATIENCE, || refused(&edge) >= 2);
    assert_eq!(refused(&edge), 2);
    let overloads = |edge: &Edge<'_>, limit: &str| metric(edge, "culvert_waypoint_overloads_total", limit);
    assert_eq!(overloads(&edge, "limit=\"requests\""), 2);
    assert_eq!(metric(&edge, "culvert_waypoint_open_requests", ""), 4);
    drop(stuck);
    wait_until("there to be room again", PATIENCE, || {
        status(&edge, edge.client()) == Some(200)
    })
    .unwrap();

    // As much as that the process always has, so that one request at a time is all that there is room for.
    restart(&mut edge, &["--memory-limit", "1"]);
    let mut stuck = edge.connect();
    write!(stuck, "GET /hang HTTP/1.1\r\nhost: edge.town\r\n\r\n").unwrap();
    wait_until("it to be under way", PATIENCE, || edge.noted.under("/hang").len() == 5).unwrap();
    wait_until("new requests to be refused", PATIENCE, || {
        status(&edge, edge.client()) == Some(503) && status(&edge, &edge.scene.guest) == Some(503)
    })
    .unwrap();
    wait_until("both to be counted", PATIENCE, || refused(&edge) >= 2).unwrap();
    assert!(metric(&edge, "culvert_waypoint_resident_memory_bytes", "") > 1 << 20);
    assert!(overloads(&edge, "limit=\"memory\"") >= 2);
    drop(stuck);
    wait_until("there to be room again", PATIENCE, || {
        status(&edge, edge.client()) == Some(200)
    })
    .unwrap();

    restart(&mut edge, &["--connections-limit", "4"]);
    let mut open: Vec<_> = (0..4).map(|_| edge.connect()).collect();
    for stream in &mut open {
        write!(stream, "GET /ok HTTP/1.1\r\nhost: edge.town\r\n\r\n").unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        assert_eq!(answer(&mut reader).unwrap(), Some((200, "ok".to_owned())));
    }
    assert_eq!(status(&edge, edge.client()), None);
    let refused = || metric(&edge, "culvert_waypoint_refused_total", "reason=\"overloaded\"");
    let _ = wait_until("it to be counted", PATIENCE, || refused() >= 1);
    assert_eq!(refused(), 1);
    assert_eq!(overloads(&edge, "limit=\"connections\""), 1);
    drop(open);
    wait_until("there to be room again", PATIENCE, || {
        status(&edge, edge.client()) == Some(200)
    })
    .unwrap();
}
