//! Twenty thousand connections that are open at the same time through the proxy of one node.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{Pod, PodSpec};
use culvert_tests::{PATIENCE, Town, lab, probe};
use rustix::process::{Resource, getrlimit};
use std::{fs, thread, time::Instant};

const PORT: u16 = 9000;

/// Each of two pods of node 1 opens so many to a pod of its own on node 2.
const OF_EACH: usize = 10_000;

/// Descriptors that a proxy needs for everything else: what it keeps back, sockets that it has ready, its tunnels, and its own.
const OTHERS: usize = 1000;

/// Bytes of a worker's own memory for one idle connection, at most. Measured: 1,200.
const MOST: u64 = 4 << 10;

/// As many as one process may have descriptors for: a proxy has one for each connection of the tunnel. Who may not raise the limit
/// of the machine gets as many as it allows.
fn of_each() -> usize {
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let room = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(OTHERS) / 2;
    let count = OF_EACH.min(room);
    assert!(
        count >= OF_EACH / 2,
        "the hard limit of open descriptors is {limit}: too few to show anything"
    );
    count
}

/// What a process has in memory for itself alone, and its part of what it shares.
fn proportional(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn twenty_thousand_connections_of_a_node_are_open_at_once_in_bounded_memory_and_all_carry() {
    let lab = lab("many");
    // How long a connection waits on a busy machine is not what is measured.
    let patient = ["--connect-timeout", "30s"].map(ToOwned::to_owned);
    let options = culvert_lab::MeshOptions {
        ztunnel_args: patient.into(),
        ..Default::default()
    };
    let mut town = Town::with(&lab, options);
    let other = lab
        .pod(PodSpec::new("town", "other").on(2).service_account("other"))
        .unwrap();
    let servers = [&town.server, &other];
    let _echoes = servers.map(|pod| probe::echo(pod, PORT));
    let _probe = probe::serve(&other, PORT + 1);
    town.wait_in_the_tunnel(&other, PORT + 1);

    let workers = [1, 2].map(|node| town.mesh.worker_pid(node).unwrap());
    let before = workers.map(proportional);
    let (each, since) = (of_each(), Instant::now());
    let pairs: [(&Pod, &Pod); 2] = [(&town.client, &town.server), (&town.neighbour, &other)];
    let crowds = thread::scope(|scope| {
        let opening = pairs.map(|(from, to)| scope.spawn(move || probe::keep(from, (to.ip4(), PORT), each)));
        opening.map(|one| one.join().unwrap())
    });
    let all = (2 * each) as u64;
    println!("{all} connections are open after {:?}", since.elapsed());

    let after = workers.map(proportional);
    for (node, (before, after)) in [1, 2].into_iter().zip(before.into_iter().zip(after)) {
        let one = after.saturating_sub(before) / all;
        println!(
            "node {node}: {} MiB before, {} MiB after, {one} bytes a connection",
            before >> 20,
            after >> 20
        );
        assert!(one < MOST, "node {node}: {one} bytes a connection");
    }
    // New connections find their way meanwhile, and none of the old has suffered.
    probe::dial(&town.client, (other.ip4(), PORT + 1), &[]).unwrap();
    for crowd in crowds {
        let outcome = crowd.stop();
        assert_eq!((outcome.done, outcome.failed), (each as u64, 0), "{:?}", outcome.errors);
    }
    assert_eq!(
        [1, 2].map(|node| town.mesh.worker_pid(node).unwrap()),
        workers,
        "a worker was replaced"
    );
    culvert_lab::wait_until("the proxies have closed them", PATIENCE, || {
        let page = town.mesh.get(2, 15000, "/connections").unwrap().body;
        !page.contains(&format!(":{PORT}\""))
    })
    .unwrap();
}
