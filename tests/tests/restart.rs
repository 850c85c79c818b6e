//! What may be killed, and what that costs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_tests::{PATIENCE, Town, lab, probe, town::PORT};

/// A worker process other than `old` is there.
fn wait_for_new_worker(town: &mut Town<'_>, node: u8, old: u32) {
    culvert_lab::wait_until("a new worker", PATIENCE, || {
        town.mesh.worker_pid(node).is_ok_and(|pid| pid != old)
    })
    .unwrap();
}

#[test]
fn an_agent_killed_and_restarted_under_load_costs_no_connection() {
    let lab = lab("re_agent");
    let mut town = Town::meshed(&lab);
    let to = (town.server.ip4(), PORT);
    let storm = probe::storm(&town.client, to);
    let storm6 = probe::storm(&town.client, (town.neighbour.ip6(), PORT));
    let hold = probe::hold(&town.client, to);
    for node in [1, 2, 1] {
        town.mesh
            .restart_agent(node)
            .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(20)));
        town.wait_enrolled(true);
        town.in_the_tunnel(|| probe::dial(&town.client, to, &[])).unwrap();
    }
    storm.stop().assert_unharmed("new connections across nodes");
    storm6.stop().assert_unharmed("new connections on one node");
    hold.stop().assert_unharmed("open connections");
}

#[test]
fn connections_made_while_the_agent_is_away_go_through_the_tunnel() {
    let lab = lab("re_away");
    let mut town = Town::meshed(&lab);
    for node in [1, 2] {
        town.mesh.agent(node).unwrap().kill().unwrap();
    }
    for to in town.server.addresses() {
        town.in_the_tunnel(|| probe::dial(&town.client, (to, PORT), &[]))
            .unwrap();
    }
}

#[test]
fn a_restarted_agent_leaves_pods_that_are_gone() {
    let lab = lab("re_gone");
    let mut town = Town::meshed(&lab);
    town.mesh.agent(2).unwrap().kill().unwrap();
    let gone = town.server.clone();
    drop(town.processes.remove(0));
    lab.remove_pod(&gone).unwrap();
    town.mesh.start_agent(2).unwrap();
    town.mesh
        .wait_for_agent(2)
        .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(20)));
    let next = lab.pod(culvert_lab::PodSpec::new("town", "next").on(2)).unwrap();
    let _server = probe::serve(&next, PORT);
    town.wait_in_the_tunnel(&next, PORT);
}

#[test]
fn a_worker_killed_under_load_is_replaced_and_new_connections_wait_and_succeed() {
    let lab = lab("re_worker");
    let mut town = Town::meshed(&lab);
    for node in [1, 2] {
        let storm_out = probe::storm(&town.client, (town.server.ip4(), PORT));
        let old = town.mesh.kill_worker(node).unwrap();
        wait_for_new_worker(&mut town, node, old);
        // A connection made from now on, and those made in between, must succeed; those that the dead worker carried die.
        town.in_the_tunnel(|| probe::dial(&town.client, (town.server.ip4(), PORT), &[]))
            .unwrap();
        let outcome = storm_out.stop();
        assert!(outcome.done > 0);
        // Four threads had one connection each in flight at the kill; everything after it must wait, not fail.
        assert!(outcome.failed <= 4, "node {node}: {outcome:?}");
    }
    town.assert_works();
}

#[test]
fn a_connection_made_while_the_worker_is_dead_waits_and_succeeds() {
    let lab = lab("re_wait");
    let mut town = Town::meshed(&lab);
    for round in 0..5 {
        town.mesh.kill_worker(1).unwrap();
        // At once: as a rule the new worker is not there yet.
        let found = probe::dial(&town.client, (town.server.ip4(), PORT), &[]);
        found.unwrap_or_else(|error| panic!("round {round}: {error}\n{}", lab.logs(20)));
    }
}

#[test]
fn a_killed_controller_costs_neither_open_nor_new_connections() {
    let lab = lab("re_ctl");
    let mut town = Town::meshed(&lab);
    let to = (town.server.ip4(), PORT);
    // What is on demand has been asked for before.
    town.assert_works();
    let storm = probe::storm(&town.client, to);
    let hold = probe::hold(&town.client, to);
    town.mesh.controller().unwrap().kill().unwrap();
    town.assert_works();
    town.mesh
        .start_controller()
        .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(20)));
    // The new one is used: a pod made now is served.
    let next = lab
        .pod(culvert_lab::PodSpec::new("town", "next").on(2).service_account("next"))
        .unwrap();
    let _server = probe::serve(&next, PORT);
    town.wait_in_the_tunnel(&next, PORT);
    storm.stop().assert_unharmed("new connections");
    hold.stop().assert_unharmed("open connections");
}

#[test]
fn a_proxy_asked_to_end_finishes_open_connections_first() {
    let lab = lab("re_drain");
    let mut town = Town::meshed(&lab);
    let hold = probe::hold(&town.client, (town.server.ip4(), PORT));
    let ztunnel = town.mesh.ztunnel(1).unwrap();
    ztunnel.signal(libc::SIGTERM).unwrap();
    culvert_lab::wait_until("it says that it drains", PATIENCE, || {
        ztunnel.log().to_lowercase().contains("drain")
    })
    .unwrap();
    assert!(
        ztunnel.is_running(),
        "it ended with connections open: {}",
        ztunnel.log_tail(20)
    );
    hold.stop().assert_unharmed("open connections while draining");
    let status = town
        .mesh
        .ztunnel(1)
        .unwrap()
        .wait(PATIENCE)
        .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(20)));
    assert!(status.success(), "{status}");
}
