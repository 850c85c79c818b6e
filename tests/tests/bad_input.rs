//! Input that is wrong at its edges: it is named in an error, denies what it concerns, and leaves the rest working. What is
//! wrong in objects is in `configuration.rs`, what is wrong in certificates of peers in `refusal.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::fs;

use culvert_lab::{PodSpec, wait_until};
use culvert_tests::{PATIENCE, Town, lab, probe, town::PORT};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

#[test]
fn a_kubernetes_namespace_that_vanishes_takes_its_pods_out_and_hurts_nobody_else() {
    let lab = lab("bad_ns");
    let town = Town::meshed(&lab);
    lab.namespace("ghost").unwrap();
    lab.label("ghost", Some("ambient")).unwrap();
    let pod = lab.pod(PodSpec::new("ghost", "pod").on(2)).unwrap();
    let _server = probe::serve(&pod, PORT);
    town.mesh.wait_enrolled(&[&pod], true, PATIENCE).unwrap();
    town.in_the_tunnel(|| probe::dial(&town.client, (pod.ip4(), PORT), &[]))
        .unwrap();

    lab.delete("Namespace", "", "ghost").unwrap();
    let mut last = String::new();
    wait_until("the controller names pod and namespace", PATIENCE, || {
        last = town
            .mesh
            .get_controller("/findings")
            .map(|found| found.body)
            .unwrap_or_default();
        last.contains("ghost/pod") && last.contains("there is no Namespace ghost")
    })
    .unwrap_or_else(|error| panic!("{error:#}: {last}"));
    wait_until("the agent lets the pod go", PATIENCE, || {
        town.mesh.is_enrolled(&pod).map_or(true, |enrolled| !enrolled)
    })
    .unwrap();
    town.assert_works();

    lab.label("ghost", Some("ambient")).unwrap();
    town.mesh.wait_enrolled(&[&pod], true, PATIENCE).unwrap();
    wait_until("the pod is reached through the tunnel again", PATIENCE, || {
        let (found, seen) = town.on_the_wire(|| probe::dial(&town.client, (pod.ip4(), PORT), &["--timeout", "5"]));
        found.is_ok() && seen.clear_bytes == 0
    })
    .unwrap();
}

#[test]
fn a_hello_of_an_unknown_version_is_refused_by_name_and_pods_stay_served() {
    let lab = lab("bad_hello");
    let mut town = Town::meshed(&lab);
    let path = SocketAddrUnix::new(lab.node(1).zds_socket()).unwrap();
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    rustix::net::connect(&socket, &path).unwrap();
    rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, Some(PATIENCE)).unwrap();
    rustix::net::send(&socket, &[0x08, 0x7f], SendFlags::NOSIGNAL).unwrap();
    let (received, _) = rustix::net::recv(&socket, &mut [0; 16], rustix::net::RecvFlags::empty()).unwrap();
    assert_eq!(received, 0, "the agent closes the connection");
    let own = std::process::id().to_string();
    let agent = town.mesh.agent(1).unwrap();
    wait_until("the agent says who said what", PATIENCE, || {
        agent
            .log()
            .lines()
            .any(|line| line.contains("version 127") && line.contains(&own))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", agent.log_tail(20)));
    town.assert_works();
}

#[test]
fn roots_that_do_not_parse_are_named_and_keep_their_own_proxy_alone_from_starting() {
    let lab = lab("bad_root");
    let mut town = Town::meshed(&lab);
    let far = lab
        .pod(PodSpec::new("town", "far").on(2).service_account("far"))
        .unwrap();
    town.mesh.wait_enrolled(&[&far], true, PATIENCE).unwrap();
    let path = lab.state_dir().join("ca/root.pem");
    let good = fs::read(&path).unwrap();
    let body = "bm90IGEgY2VydGlmaWNhdGUsIHdoYXRldmVyIGl0IHNheXMK";
    let broken = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
    town.mesh.ztunnel(1).unwrap().kill().unwrap();
    for text in ["", "no PEM at all", &broken] {
        fs::write(&path, text).unwrap();
        town.mesh.start_ztunnel(1).unwrap();
        let ztunnel = town.mesh.ztunnel(1).unwrap();
        let status = ztunnel.wait(PATIENCE).unwrap();
        let log = ztunnel.log_tail(5);
        assert!(
            !status.success() && log.contains("root.pem"),
            "{text:?}: {status} {log}"
        );
        // The other node has its own proxy, which read good roots.
        probe::dial(&far, (town.server.ip4(), PORT), &[]).unwrap();
    }
    fs::write(&path, good).unwrap();
    town.mesh.start_ztunnel(1).unwrap();
    town.mesh.wait_for_ztunnel(1).unwrap();
    town.assert_works();
}
