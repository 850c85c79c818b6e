//! A proxy that may open hardly any more descriptors: connections wait, and nothing else is lost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{Mesh, MeshOptions, PodSpec, wait_until};
use culvert_tests::{PATIENCE, Town, echo, lab, probe, town::PORT};
use std::time::Duration;

/// The proxies' limit: enough to start with, and for some hundred connections.
const LIMIT: u32 = 300;

/// A connection that takes longer is one that waits for a descriptor, however busy the machine is.
const SOON: Duration = Duration::from_secs(10);

fn is_ready(mesh: &Mesh<'_>) -> bool {
    mesh.get(1, 15021, "/healthz/ready")
        .is_ok_and(|answer| answer.status == 200)
}

#[test]
fn a_proxy_that_runs_out_of_descriptors_makes_connections_wait_and_goes_on() {
    let lab = lab("fd_limit");
    let options = MeshOptions {
        ztunnel_descriptors: Some(LIMIT),
        ..MeshOptions::default()
    };
    let mut town = Town::with(&lab, options);
    let stranger = lab.pod(PodSpec::new("outside", "stranger").on(1)).unwrap();
    let to = echo::serve(&town.neighbour, 9000);
    // Idle connections of somebody outside, until no more come about.
    let mut idle = Vec::new();
    while let Ok(stream) = echo::connect(&stranger, to, SOON) {
        idle.push(stream);
        assert!(idle.len() < LIMIT as usize, "the limit has no effect");
    }
    assert!(idle.len() > 50, "only {} connections", idle.len());
    // Meanwhile the proxy is in charge of what has nothing to do with them: its probes, and a pod that comes.
    assert!(is_ready(&town.mesh), "readiness is gone while connections are many");
    let spec = PodSpec::new("town", "late").on(1).service_account("late");
    let late = lab.pod(spec).unwrap();
    let _served = probe::serve(&late, PORT);
    town.mesh
        .wait_enrolled(&[&late], true, PATIENCE)
        .unwrap_or_else(|error| panic!("a pod that came meanwhile: {error:#}"));
    // All but one end: everybody is served again.
    idle.truncate(1);
    for (what, from, target) in [
        ("another pod connects", &town.client, (town.server.ip4(), PORT)),
        (
            "the pod that came meanwhile is reached",
            &town.client,
            (late.ip4(), PORT),
        ),
        (
            "another pod is reached from outside",
            &stranger,
            (town.neighbour.ip4(), PORT),
        ),
    ] {
        let dial = || probe::dial(from, target, &["--timeout", "5"]).is_ok();
        wait_until(what, PATIENCE, dial).unwrap_or_else(|error| panic!("{error:#}"));
    }
    assert!(is_ready(&town.mesh));
    echo::round_trip(&mut idle[0]).expect("a connection that was open all the time");
    let log = town.mesh.ztunnel(1).unwrap().log();
    assert!(!log.contains("draining"), "{log}");
}
