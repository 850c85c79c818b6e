//! What the proxies ask the controller for, and what addresses that nobody of the mesh has must not cost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{PodSpec, wait_until};
use culvert_tests::{PATIENCE, Town, echo, lab};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::Command,
};

/// Addresses outside of the mesh's ranges, all of them a stranger's.
const STRANGERS: &str = "198.18.128.0/17";

/// The value of a metric without labels, or the sum over labels.
fn metric(town: &Town<'_>, name: &str) -> f64 {
    let page = town.mesh.get(1, 15020, "/metrics").unwrap().body;
    let values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next())?
    });
    values.map(|value| value.parse::<f64>().unwrap()).sum()
}

fn ip(arguments: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(arguments);
    command
}

#[test]
fn strangers_addresses_are_not_asked_for() {
    let lab = lab("ask_source");
    let town = Town::meshed(&lab);
    let stranger = lab.pod(PodSpec::new("outside", "stranger").on(1)).unwrap();
    let to = echo::serve(&town.neighbour, 9000);
    let via = stranger.ip4().to_string();
    let local = stranger.output(&mut ip(&["route", "add", "local", STRANGERS, "dev", "lo"]));
    assert!(local.unwrap().status.success());
    let routed = lab.node(1).output(&mut ip(&["route", "add", STRANGERS, "via", &via]));
    assert!(routed.unwrap().status.success());
    // Everything that is asked for anyway has been.
    echo::connect(&stranger, to, PATIENCE).unwrap();
    let subscribed = || metric(&town, "culvert_ztunnel_subscribed_addresses");
    let responses = || metric(&town, "culvert_ztunnel_xds_responses_total");
    let mut before = (0.0, 0.0);
    wait_until("nothing more is asked for", PATIENCE, || {
        let now = (subscribed(), responses());
        std::mem::replace(&mut before, now) == now
    })
    .unwrap();
    let mut open = Vec::new();
    for host in 0..300u32 {
        let source = Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 128, 1).to_bits() + host);
        let socket = stranger.tcp_socket(to).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect_timeout(&to.into(), PATIENCE).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        echo::round_trip(&mut stream).unwrap();
        open.push(stream);
    }
    // Questions are answered in order: once this one is, those before it would have been.
    let nobody = SocketAddr::from((Ipv4Addr::new(198, 18, 2, 250), 80));
    let _waits = town.client.connect(nobody, PATIENCE).unwrap();
    wait_until("the question of a pod is answered", PATIENCE, || {
        subscribed() > before.0 && responses() > before.1
    })
    .unwrap();
    assert_eq!(subscribed(), before.0 + 1.0, "only the pod's own question");
    open.iter_mut().for_each(|stream| echo::round_trip(stream).unwrap());
}
