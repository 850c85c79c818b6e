//! A link between the nodes that takes smaller packets than the pods' own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::Pod;
use culvert_tests::{Town, lab, probe, town::PORT};
use std::{net::IpAddr, process::Command};

/// The least that IPv6 asks of a link.
const NARROW: &str = "1280";

/// Several windows of a stream, each way.
const TRANSFER: [&str; 4] = ["--transfer", "6000000:6000000", "--timeout", "30"];

fn narrow_the_link(town: &Town<'_>) {
    for node in town.lab.nodes() {
        let mut ip = Command::new("ip");
        let done = node.output(ip.args(["link", "set", "wire", "mtu", NARROW])).unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

/// What a pod's kernel knows of the way to an address.
fn route(pod: &Pod, to: IpAddr) -> String {
    let output = pod
        .output(Command::new("ip").args(["route", "get", &to.to_string()]))
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The nodes refuse what is too large, and say so to the pod whose namespace the tunnel's socket is in: the proxy's tunnels learn of
/// it as a socket of the pod's own would, since they are in the pod.
#[test]
fn a_link_that_takes_less_than_the_pods_carries_both_families_whether_connections_were_there_before_or_not() {
    let lab = lab("mtu");
    let town = Town::meshed(&lab);
    let _at_client = probe::serve(&town.client, PORT);
    let mut kept: Vec<_> = town
        .server
        .addresses()
        .map(|to| probe::hold(&town.client, (to, PORT)))
        .into();
    narrow_the_link(&town);
    let ways = [
        (&town.client, &town.server),
        (&town.server, &town.client),
        (&town.neighbour, &town.server),
    ];
    for (from, to) in ways {
        for to in to.addresses() {
            town.in_the_tunnel(|| probe::dial(from, (to, PORT), &TRANSFER))
                .unwrap_or_else(|error| panic!("{} to {to}: {error}", from.name()));
            let route = route(from, to);
            assert!(
                route.contains(&format!("mtu {NARROW}")),
                "the link was not too narrow for anything: {route}"
            );
        }
    }
    for kept in kept.drain(..) {
        kept.stop().assert_unharmed("a connection that was there before");
    }
}
