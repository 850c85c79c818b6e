//! What strangers send to open ports and sockets must not hurt anybody.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::PodSpec;
use culvert_tests::{PATIENCE, Town, lab, probe, town::PORT};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::Duration,
};

/// Sends garbage to a port of pods, from inside and outside of the mesh, and asserts that the same processes go on.
fn survives(name: &str, port: u16) {
    let lab = lab(name);
    let mut town = Town::meshed(&lab);
    let workers = [1, 2].map(|node| town.mesh.worker_pid(node).unwrap());
    let outside = lab.pod(culvert_lab::PodSpec::new("outside", "stranger").on(1)).unwrap();
    let hold = probe::hold(&town.client, (town.server.ip4(), culvert_tests::town::PORT));
    let targets = [
        (&outside, SocketAddr::from((town.server.ip4(), port))),
        (&outside, (town.server.ip6(), port).into()),
        (&town.client, (town.server.ip4(), port).into()),
        // The pod's own address: what a malicious application in the pod would dial.
        (&town.client, (town.client.ip4(), port).into()),
    ];
    for (seed, (from, to)) in targets.into_iter().enumerate() {
        let mut command = probe::command();
        command.args([
            "garbage",
            "--count",
            "48",
            "--seed",
            &seed.to_string(),
            "--to",
            &to.to_string(),
        ]);
        let output = from.output(&mut command).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    town.assert_works();
    hold.stop().assert_unharmed("a connection meanwhile");
    assert_eq!(
        [1, 2].map(|node| town.mesh.worker_pid(node).unwrap()),
        workers,
        "a worker died\n{}",
        lab.logs(30)
    );
    for node in [1, 2] {
        let log = town.mesh.ztunnel(node).unwrap().log();
        assert!(!log.contains("panicked"), "{}", lab.logs(40));
    }
}

#[test]
fn garbage_on_the_outbound_port_hurts_nobody() {
    survives("gar_15001", 15001);
}

#[test]
fn garbage_on_the_plaintext_port_hurts_nobody() {
    survives("gar_15006", 15006);
}

#[test]
fn garbage_on_the_tunnel_port_hurts_nobody() {
    survives("gar_15008", 15008);
}

#[test]
fn garbage_on_the_agents_socket_hurts_nobody() {
    let lab = lab("gar_zds");
    let mut town = Town::meshed(&lab);
    let path = lab.node(1).zds_socket();
    // Nothing, a zero, a huge varint, a hello of an unknown version, an answer to nothing, and sheer size.
    let messages: [&[u8]; 6] = [
        b"",
        &[0],
        &[0xff; 11],
        &[0x08, 0x7f],
        &[0x12, 0x02, 0x0a, 0x00],
        &[0xa5; 60_000],
    ];
    for message in messages {
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::connect(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        // The agent may hang up at any moment.
        let _ = rustix::net::send(&socket, message, SendFlags::NOSIGNAL);
        let _ = rustix::net::send(&socket, message, SendFlags::NOSIGNAL);
    }
    // Many that say nothing at all.
    let silent: Vec<_> = (0..64)
        .map(|_| {
            let socket =
                rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                    .unwrap();
            let _ = rustix::net::connect(&socket, &SocketAddrUnix::new(&path).unwrap());
            socket
        })
        .collect();
    assert!(
        town.mesh.agent(1).unwrap().is_running(),
        "the agent died\n{}",
        lab.logs(30)
    );
    town.assert_works();
    // The agent still serves its proxy.
    let next = lab.pod(culvert_lab::PodSpec::new("town", "next").on(1)).unwrap();
    let waited = town.mesh.wait_enrolled(&[&next], true, PATIENCE);
    waited.unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(30)));
    drop(silent);
}

/// Ends a flood when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Handshakes from a pod outside the mesh, as many as it can begin, at one pod of node 2.
#[test]
fn a_flood_of_handshakes_at_one_pod_leaves_others_their_connections() {
    const FLOODERS: usize = 8;
    let lab = lab("gar_flood");
    let mut town = Town::meshed(&lab);
    let worker = town.mesh.worker_pid(2).unwrap();
    let stranger = lab.pod(PodSpec::new("outside", "stranger").on(1)).unwrap();
    let other = lab
        .pod(PodSpec::new("town", "other").on(2).service_account("other"))
        .unwrap();
    let _server = probe::serve(&other, PORT);
    town.wait_in_the_tunnel(&other, PORT);
    let hello = culvert_tests::tunnel::client_hello();
    let target = SocketAddr::from((town.server.ip4(), 15008));
    let (is_over, begun) = (AtomicBool::new(false), AtomicU64::new(0));
    let flood = || {
        while !is_over.load(Relaxed) {
            // What is not accepted in time, or reset, is the proxy's answer to a flood.
            let Ok(mut stream) = stranger.connect(target, Duration::from_secs(1)) else {
                continue;
            };
            stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            if stream.write_all(&hello).is_ok() {
                begun.fetch_add(1, Relaxed);
                let _ = stream.read(&mut [0; 64]);
            }
        }
    };
    let outcome = thread::scope(|scope| {
        // Also when something below fails.
        let _over = Over(&is_over);
        let before = probe::storm(&town.client, (other.ip4(), PORT)).stop();
        for _ in 0..FLOODERS {
            scope.spawn(flood);
        }
        culvert_lab::wait_until("a flood", PATIENCE, || begun.load(Relaxed) > 100).unwrap();
        let (storm, hold) = (
            probe::storm(&town.client, (other.ip4(), PORT)),
            probe::hold(&town.client, (other.ip4(), PORT)),
        );
        let first = begun.load(Relaxed);
        culvert_lab::wait_until("more of it", PATIENCE, || begun.load(Relaxed) > first + 500).unwrap();
        let outcome = storm.stop();
        hold.stop().assert_unharmed("a connection to another pod meanwhile");
        println!(
            "{} handshakes begun; before: {before:?}; meanwhile: {outcome:?}",
            begun.load(Relaxed)
        );
        outcome
    });
    outcome.assert_unharmed("connections to another pod meanwhile");
    assert_eq!(town.mesh.worker_pid(2).unwrap(), worker, "the worker was replaced");
    town.assert_works();
}
