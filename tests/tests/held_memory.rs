//! What connections make a node hold is bounded, and one pod's excess is its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{Lab, PodSpec};
use culvert_tests::{
    PATIENCE, Town, accept, lab,
    memory::{MemoryLimit, resident},
    probe,
    town::PORT,
};
use std::{
    io::{Read, Write},
    net::{IpAddr, TcpStream},
    time::{Duration, Instant},
};

/// Connections of each pod.
const CONNECTIONS: usize = 20;

/// What a receiving node's worker may have in memory; each tunnel alone held 73 MiB before there was a budget.
const MOST: u64 = 256 << 20;

#[test]
fn an_application_that_never_accepts_costs_neither_the_node_nor_its_neighbours() {
    let lab = lab("hm_never");
    let mut town = Town::meshed(&lab);
    overfill(&mut town, &lab, 10);
}

/// As much as a proxy's container may have by the manifests of many meshes. It was killed within five seconds before there was a budget.
#[test]
fn in_half_a_gibibyte_an_application_that_never_accepts_gets_no_process_killed() {
    let lab = lab("hm_oom");
    let mut town = Town::meshed(&lab);
    let proxy = [town.mesh.ztunnel(2).unwrap().pid(), town.mesh.worker_pid(2).unwrap()];
    let limit = MemoryLimit::of("oom", 512 << 20, &proxy);
    overfill(&mut town, &lab, 12);
    assert_eq!(limit.kills(), 0);
}

/// Many connections from so many pods of node 1 to a pod of node 2 that does not accept them, each with more than it can take. A
/// witness of another pod of node 2 goes on, in memory that is bounded.
fn overfill(town: &mut Town<'_>, lab: &Lab, senders: usize) {
    let any = IpAddr::from([0, 0, 0, 0]);
    // Listens, and never accepts.
    let _listener = town.server.listen((any, 9000)).unwrap();
    let other = PodSpec::new("town", "other").on(2).service_account("other");
    let other = lab.pod(other).unwrap();
    let _probe = probe::serve(&other, 9002);
    town.wait_in_the_tunnel(&other, 9002);
    let witness_listener = other.listen((any, 9001)).unwrap();
    let pods: Vec<_> = (0..senders)
        .map(|number| {
            let spec = PodSpec::new("town", &format!("sender-{number}")).on(1);
            lab.pod(spec.service_account("sender")).unwrap()
        })
        .collect();
    let all: Vec<_> = pods.iter().collect();
    town.mesh.wait_enrolled(&all, true, PATIENCE).unwrap();

    let mut witness = town.client.connect((other.ip4(), 9001), PATIENCE).unwrap();
    witness.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut witness_app, _) = accept(&witness_listener);

    let mut streams: Vec<TcpStream> = Vec::new();
    for pod in &pods {
        for _ in 0..CONNECTIONS {
            let stream = pod.connect((town.server.ip4(), 9000), PATIENCE).unwrap();
            stream.set_nonblocking(true).unwrap();
            streams.push(stream);
        }
    }
    let worker = town.mesh.worker_pid(2).unwrap();
    let chunk = vec![7u8; 256 << 10];
    let (mut written, mut most) = (0u64, 0u64);
    let mut progress = Instant::now();
    // Until nothing more is taken for a while, or each has sent ten windows.
    while progress.elapsed() < Duration::from_secs(3) && written < (pods.len() * CONNECTIONS) as u64 * (40 << 20) {
        for mut stream in &streams {
            if let Ok(count @ 1..) = stream.write(&chunk) {
                written += count as u64;
                progress = Instant::now();
            }
        }
        most = most.max(resident(worker));
        assert!(most < MOST, "{} MiB after {} MiB were sent", most >> 20, written >> 20);
        witness.write_all(b"still").unwrap();
        let mut got = [0u8; 5];
        witness_app.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"still");
    }
    println!("{} MiB sent, at most {} MiB resident", written >> 20, most >> 20);
    assert_eq!(town.mesh.worker_pid(2).unwrap(), worker, "the worker was replaced");
    // The page for Prometheus has it, and new connections to other pods work, on this node as on the other.
    let metrics = town.mesh.get(2, 15020, "/metrics").unwrap().body;
    assert!(metrics.contains("culvert_ztunnel_held_limit_bytes"), "{metrics}");
    for to in [(other.ip4(), 9002), (town.neighbour.ip4(), PORT)] {
        probe::dial(&town.client, to, &[]).unwrap_or_else(|error| panic!("{to:?}: {error}\n{}", lab.logs(10)));
    }
}
