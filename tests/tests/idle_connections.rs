//! Connections that do nothing hold next to nothing, whatever they did before; nor does the process that watches over the proxy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::wait_until;
use culvert_tests::{PATIENCE, Town, accept, lab, memory::footprint};
use std::{
    io::{Read, Write},
    net::{IpAddr, TcpStream},
    thread,
};

const CONNECTIONS: usize = 3000;

/// What a proxy may hold for each, bytes: 1.9 to 2.8 KiB of a debug build were seen, at either end, with what was free between them. A buffer of
/// 8 KiB that each connection kept would be more than twice what is allowed here.
const EACH: u64 = 4 << 10;

/// What a proxy may hold more than before, whatever it has done: arenas of threads that had nothing to do until then, and what is free
/// between things that stay. How much that is depends on what ran at the same time: up to 3.6 MB were seen.
const BESIDES: u64 = 3 << 20;

/// What the monitor may hold of its own, bytes. 1.5 MB were seen, more than half of it relocated constants of a debug build.
const MONITOR: u64 = 3 << 20;

#[test]
fn connections_that_are_idle_hold_no_buffers_and_the_monitor_holds_next_to_nothing() {
    let lab = lab("idle_memory");
    let mut town = Town::meshed(&lab);
    let workers = [1, 2].map(|node| town.mesh.worker_pid(node).unwrap());
    for node in [1, 2] {
        let monitor = footprint(town.mesh.ztunnel(node).unwrap().pid());
        assert!(monitor.anonymous < MONITOR, "node {node}'s monitor: {monitor:?}");
    }
    let before = workers.map(|pid| footprint(pid).anonymous);
    let listener = town.server.listen((IpAddr::from([0, 0, 0, 0]), 9000)).unwrap();
    let open = |bytes: usize| {
        let client = town.client.connect((town.server.ip4(), 9000), PATIENCE).unwrap();
        let (server, _) = accept(&listener);
        for (from, to) in [(&client, &server), (&server, &client)] {
            carry(from, to, bytes);
        }
        (client, server)
    };
    let mut ends: Vec<_> = (1..CONNECTIONS).map(|_| open(4 << 10)).collect();
    // So much at once takes the largest reads that there are.
    ends.push(open(64 << 20));
    let mut last = Vec::new();
    let waited = wait_until("what the bytes took is given back", PATIENCE, || {
        let now = workers.map(|pid| footprint(pid).anonymous);
        last = now
            .iter()
            .zip(before)
            .map(|(now, before)| now.saturating_sub(before))
            .collect();
        last.iter().all(|more| *more < CONNECTIONS as u64 * EACH + BESIDES)
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {last:?} bytes more than before\n{}", lab.logs(10)));
    println!("{last:?} bytes for {CONNECTIONS} connections");
    // They are all there still.
    for (client, server) in &ends {
        carry(client, server, 1);
    }
}

/// Sends so many bytes from one end to the other.
fn carry(mut from: &TcpStream, mut to: &TcpStream, bytes: usize) {
    to.set_read_timeout(Some(PATIENCE)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| from.write_all(&vec![7; bytes]).unwrap());
        let mut got = vec![0; bytes];
        to.read_exact(&mut got).unwrap();
        assert!(got.iter().all(|byte| *byte == 7));
    });
}
