//! Waypoints: node proxies lead connections there, and nobody gets around one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{net::SocketAddr, time::Duration};

use culvert_lab::{Pod, PodSpec, ServiceSpec, wait_until};
use culvert_tests::{
    PATIENCE, Town, authority::Authority, echo, lab, played::PlayedWaypoint, town::PORT, waypoint::Place,
};

/// Where the echo is, beside the town's own servers.
const ECHO: u16 = PORT + 1;
/// Another port of the same pod, of which no Service knows.
const OTHER: u16 = PORT + 2;

/// How long an attempt may take: on a pod's link it may be lost, and nobody answers.
const ATTEMPT: Duration = Duration::from_secs(5);

fn reaches(from: &Pod, to: SocketAddr) -> bool {
    echo::connect(from, to, ATTEMPT).is_ok()
}

#[track_caller]
fn wait_for(town: &Town<'_>, what: &str, condition: impl FnMut() -> bool) {
    let waited = wait_until(what, PATIENCE, condition);
    waited.unwrap_or_else(|error| panic!("{error:#}\n{}", town.lab.logs(30)));
}

#[test]
fn a_service_behind_a_waypoint_is_reached_through_it_alone() {
    let lab = lab("wp_node");
    let town = Town::meshed(&lab);
    for port in [ECHO, OTHER] {
        echo::serve(&town.server, port);
    }
    let spec = ServiceSpec::new("town", "web")
        .port_to(80, ECHO)
        .selector("app", "server");
    let web = lab.service(spec).unwrap();
    let virtual_address = SocketAddr::from((web.ip4(), 80));
    let [at_port, other] = [ECHO, OTHER].map(|port| SocketAddr::from((town.server.ip4(), port)));
    lab.namespace("outside").unwrap();
    let stranger = lab.pod(PodSpec::new("outside", "stranger").on(1)).unwrap();
    wait_for(&town, "the Service to be reached", || {
        reaches(&town.client, virtual_address)
    });
    wait_for(&town, "the pod to be reached", || {
        reaches(&town.client, at_port) && reaches(&stranger, at_port)
    });

    // The waypoint is named and not there.
    lab.label_with("town", "culvert.dev/use-waypoint", Some("wp")).unwrap();
    let mut log = String::new();
    wait_for(&town, "the Service to be refused, and why", || {
        let refused = !reaches(&town.client, virtual_address);
        log = town.lab.logs(40);
        refused && log.contains("is reached through waypoint town/wp.town.svc.cluster.local, which is not known")
    });

    // It comes, and is asked for what was dialled.
    let place = Place::make(&lab, "town", "wp");
    let waypoint = place.play(&lab);
    wait_for(&town, "the Service to be reached through the waypoint", || {
        reaches(&town.client, virtual_address) && !waypoint.asked().is_empty()
    });
    let asked = waypoint.asked();
    assert!(
        asked.iter().all(|authority| *authority == virtual_address.to_string()),
        "{asked:?}"
    );
    town.in_the_tunnel(|| assert!(reaches(&town.client, virtual_address)));

    // Nobody goes around it: not a client of the mesh, and not one outside.
    wait_for(&town, "the pod to be refused at the Service's port", || {
        !reaches(&town.client, at_port) && !reaches(&stranger, at_port)
    });
    assert!(
        reaches(&town.client, other) && reaches(&stranger, other),
        "another port is as it was"
    );
    let log = town.lab.logs(60);
    assert!(
        log.contains("town/culvert_waypoint_town_wp_"),
        "no line names the policy: {log}"
    );

    // Nor does somebody else pass for the waypoint.
    drop(waypoint);
    let leaf = Authority::of(&lab).leaf(&[&town.neighbour.identity()]);
    let impostor = PlayedWaypoint::serve(&place.pod, leaf);
    wait_for(&town, "an impostor to get nothing", || {
        !reaches(&town.client, virtual_address)
    });
    assert!(impostor.asked().is_empty(), "{:?}", impostor.asked());

    // It is no longer asked for.
    lab.label_with("town", "culvert.dev/use-waypoint", None).unwrap();
    wait_for(&town, "the Service to be reached without a waypoint", || {
        reaches(&town.client, virtual_address) && reaches(&town.client, at_port) && reaches(&stranger, at_port)
    });
}
