//! Local legs in the kernel, through the whole mesh: what applications send to their node's proxy does not go by TCP.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{MeshOptions, wait_until};
use culvert_tests::{PATIENCE, Town, accept, lab, probe, town::PORT};
use serde_json::Value;
use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

fn carrying(name: &'static str, test: impl FnOnce(Town<'_>)) {
    let lab = lab(name);
    let options = MeshOptions {
        agent_args: vec!["--local-legs".to_owned(), "polled".to_owned()],
        ..Default::default()
    };
    let town = Town::with(&lab, options);
    for node in [1, 2] {
        let page = legs(&town, node);
        assert_eq!(
            (&page["by"], &page["refused"]),
            (&"kernel".into(), &Value::Null),
            "node {node}"
        );
    }
    test(town);
}

/// What the agent of a node says of them.
fn legs(town: &Town<'_>, node: u8) -> Value {
    let page = town.mesh.get(node, 15022, "/pods").unwrap();
    let page: Value = serde_json::from_str(&page.body).unwrap();
    page["local_legs"].clone()
}

fn counted(town: &Town<'_>, node: u8, outcome: &str) -> u64 {
    legs(town, node)["counted"][outcome].as_u64().unwrap()
}

/// Out, and back.
const SIZES: [(usize, usize); 8] = [
    (0, 0),
    (1, 0),
    (0, 1),
    (16384, 16385),
    (1_000_003, 17),
    (5, 999_983),
    (1_194_304, 2_194_305),
    (3_654_321, 1_000_003),
];

/// One end of a connection: it sends, and reads to the other's end at the same time, or before.
fn side(socket: &TcpStream, out: usize, back: usize, reads_first: bool, name: &str) {
    socket.set_nonblocking(true).unwrap();
    if reads_first {
        read_all(socket, back, name);
    }
    thread::scope(|scope| {
        if !reads_first {
            scope.spawn(|| read_all(socket, back, name));
        }
        let bytes: Vec<u8> = (0..out).map(byte).collect();
        let mut at = 0;
        while at < out {
            match (&mut &*socket).write(&bytes[at..]) {
                Ok(count) => at += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for(socket, libc::POLLOUT),
                Err(error) => panic!("{name}: {error}"),
            }
        }
        socket.shutdown(Shutdown::Write).unwrap();
    });
}

fn read_all(mut socket: &TcpStream, count: usize, name: &str) {
    let (mut buffer, mut at) = (vec![0; 100_000], 0);
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                assert!(
                    buffer[..read]
                        .iter()
                        .enumerate()
                        .all(|(index, found)| *found == byte(at + index)),
                    "{name}"
                );
                at += read;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for(socket, libc::POLLIN),
            Err(error) => panic!("{name}: after {at} of {count}: {error}"),
        }
    }
    assert_eq!(at, count, "{name}");
}

fn byte(at: usize) -> u8 {
    (at ^ at >> 8 ^ at >> 16) as u8
}

/// As applications do that poll.
fn wait_for(socket: &TcpStream, events: i16) {
    let mut poll = libc::pollfd {
        fd: socket.as_raw_fd(),
        events,
        revents: 0,
    };
    // SAFETY: one element.
    let ready = unsafe { libc::poll(&mut poll, 1, PATIENCE.as_millis() as i32) };
    assert_eq!(ready, 1, "nothing happens");
}

#[test]
fn what_both_sides_send_is_carried_and_keeps_every_byte() {
    carrying("ll_both", |town| {
        let any = IpAddr::from([0u16; 8]);
        let targets = [(&town.server, 0), (&town.server, 1), (&town.neighbour, 0)];
        for (number, (pod, family)) in targets.into_iter().enumerate() {
            let listener = pod.listen((any, 8092)).unwrap();
            for (out, back) in SIZES {
                for ends_first in [None, Some(true), Some(false)] {
                    let client = town.client.connect((pod.addresses()[family], 8092), PATIENCE).unwrap();
                    let (server, _) = accept(&listener);
                    let name = format!("{number}: {out}:{back} {ends_first:?}");
                    thread::scope(|scope| {
                        scope.spawn(|| side(&client, out, back, ends_first == Some(false), &name));
                        scope.spawn(|| side(&server, back, out, ends_first == Some(true), &name));
                    });
                }
            }
        }
        for node in [1, 2] {
            assert!(counted(&town, node, "redirected") > 0, "{}", legs(&town, node));
        }
        let metrics = town.mesh.get(1, 15022, "/metrics").unwrap().body;
        assert!(metrics.contains("hook=\"legs\",outcome=\"redirected\""), "{metrics}");
    });
}

/// The proxy stops reading when its tunnel is full, so the leg goes back to TCP; when the server reads, the proxy must find what came by
/// either way.
#[test]
fn a_server_that_stops_reading_holds_the_client_back_and_gets_everything_later() {
    carrying("ll_back", |town| {
        let listener = town.server.listen((IpAddr::from([0, 0, 0, 0]), 8090)).unwrap();
        let mut client = town.client.connect((town.server.ip4(), 8090), PATIENCE).unwrap();
        let (mut server, _) = accept(&listener);
        client.set_nonblocking(true).unwrap();
        let chunk: Vec<u8> = (0..1 << 20).map(|at: usize| (at / 5) as u8).collect();
        let (mut written, mut last_progress) = (0_usize, Instant::now());
        wait_until("the writer is held back", PATIENCE, || {
            while let Ok(count) = client.write(&chunk[written % chunk.len()..]) {
                written += count;
                last_progress = Instant::now();
                assert!(written < 256 << 20, "{written} bytes were taken though nobody reads");
            }
            // Nothing was taken for a while, and that is why.
            last_progress.elapsed() > Duration::from_secs(2) && counted(&town, 1, "tcp_unread") > 0
        })
        .unwrap_or_else(|error| panic!("{error:#}: {}", legs(&town, 1)));
        client.shutdown(Shutdown::Write).unwrap();
        let (mut buffer, mut received) = (vec![0_u8; 1 << 20], 0);
        loop {
            wait_for(&server, libc::POLLIN);
            let count = server.read(&mut buffer).unwrap();
            if count == 0 {
                break;
            }
            for (at, byte) in buffer[..count].iter().enumerate() {
                assert_eq!(*byte, chunk[(received + at) % chunk.len()], "after {received}");
            }
            received += count;
        }
        assert_eq!(received, written);
    });
}

/// Bursts that are larger than what the proxy may leave unread, each waited for: nothing follows that could wake the proxy.
#[test]
fn a_burst_that_goes_two_ways_is_not_left_lying() {
    carrying("ll_burst", |town| {
        let (to, burst) = (SocketAddr::new(town.server.ip4().into(), 8091), 6 << 20);
        let listener = town.server.listen((IpAddr::from([0, 0, 0, 0]), 8091)).unwrap();
        for round in 0..12_u8 {
            let mut client = town.client.connect(to, PATIENCE).unwrap();
            let (mut server, _) = accept(&listener);
            for socket in [&client, &server] {
                socket.set_nonblocking(true).unwrap();
            }
            thread::scope(|scope| {
                scope.spawn(|| {
                    let (mut all, mut at) = (vec![0; burst], 0);
                    while at < burst {
                        wait_for(&server, libc::POLLIN);
                        at += server.read(&mut all[at..]).unwrap();
                    }
                    assert!(all.iter().all(|byte| *byte == round));
                    server.write_all(b"!").unwrap();
                });
                let (all, mut at) = (vec![round; burst], 0);
                while at < burst {
                    wait_for(&client, libc::POLLOUT);
                    at += client.write(&all[at..]).unwrap();
                }
                wait_for(&client, libc::POLLIN);
                client.read_exact(&mut [0]).unwrap();
            });
        }
    });
}

#[test]
fn connections_go_on_when_the_agent_ends_and_new_ones_when_the_proxy_does() {
    carrying("ll_restart", |mut town| {
        let mut crowd = probe::hold(&town.client, (town.server.ip4(), PORT));
        town.mesh.restart_agent(1).unwrap();
        town.mesh.restart_agent(2).unwrap();
        assert!(crowd.is_going());
        crowd.stop().assert_unharmed("open connections while agents restart");
        town.mesh.restart_ztunnel(1).unwrap();
        let listener = town.server.listen((IpAddr::from([0u16; 8]), 8093)).unwrap();
        let before = counted(&town, 1, "redirected");
        let client = town.client.connect((town.server.ip4(), 8093), PATIENCE).unwrap();
        let (server, _) = accept(&listener);
        thread::scope(|scope| {
            scope.spawn(|| side(&client, 1000, 1000, false, "client"));
            scope.spawn(|| side(&server, 1000, 1000, false, "server"));
        });
        assert!(counted(&town, 1, "redirected") > before);
    });
}
