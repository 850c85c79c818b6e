//! Namespaces and pods join and leave while they run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{MeshOptions, PodSpec};
use culvert_tests::{PATIENCE, Town, lab, probe, town::PORT};

#[test]
fn a_namespace_joins_and_leaves_under_load_without_a_failed_connection() {
    let lab = lab("mem_load");
    let town = Town::unlabelled(&lab, MeshOptions::default());
    let to = (town.server.ip4(), PORT);
    let (_, seen) = town.on_the_wire(|| probe::dial(&town.client, to, &[]).unwrap());
    assert!(seen.clear_bytes > 0, "before the label traffic is in clear");

    let across = probe::storm(&town.client, to);
    let across6 = probe::storm(&town.client, (town.server.ip6(), PORT));
    let near = probe::storm(&town.client, (town.neighbour.ip4(), PORT));
    for _ in 0..3 {
        town.join();
        town.leave();
    }
    for (what, storm) in [
        ("IPv4 across nodes", across),
        ("IPv6 across nodes", across6),
        ("on one node", near),
    ] {
        storm.stop().assert_unharmed(what);
    }
}

#[test]
fn connections_that_were_open_in_clear_survive_joining() {
    let lab = lab("mem_open");
    let town = Town::unlabelled(&lab, MeshOptions::default());
    let holds = [town.server.ip4(), town.neighbour.ip4()].map(|to| probe::hold(&town.client, (to, PORT)));
    town.join();
    town.assert_works();
    for hold in holds {
        hold.stop().assert_unharmed("connections opened before the label");
    }
}

#[test]
fn connections_in_the_tunnel_survive_leaving() {
    let lab = lab("mem_leave");
    let town = Town::meshed(&lab);
    let holds = [town.server.ip4(), town.neighbour.ip4()].map(|to| probe::hold(&town.client, (to, PORT)));
    town.leave();
    let (_, seen) = town.on_the_wire(|| probe::dial(&town.client, (town.server.ip4(), PORT), &[]).unwrap());
    assert!(seen.clear_bytes > 0, "new connections are in clear again");
    for hold in holds {
        hold.stop().assert_unharmed("connections opened in the tunnel");
    }
}

#[test]
fn new_connections_are_in_the_tunnel_after_the_label_and_stay_there() {
    let lab = lab("mem_soon");
    let town = Town::unlabelled(&lab, MeshOptions::default());
    town.join();
    for _ in 0..10 {
        for to in town.server.addresses() {
            town.in_the_tunnel(|| probe::dial(&town.client, (to, PORT), &[]))
                .unwrap();
        }
    }
}

#[test]
fn istios_label_means_the_same() {
    let lab = lab("mem_istio");
    let town = Town::unlabelled(&lab, MeshOptions::default());
    lab.label_with("town", "istio.io/dataplane-mode", Some("ambient"))
        .unwrap();
    town.wait_in_the_tunnel(&town.server, PORT);
}

#[test]
fn a_pod_can_stay_out_of_a_labelled_namespace() {
    let lab = lab("mem_none");
    let town = Town::meshed(&lab);
    let out = lab
        .pod(PodSpec::new("town", "out").on(2).label("culvert.dev/mesh", "none"))
        .unwrap();
    let _server = probe::serve(&out, PORT);
    let later = lab.pod(PodSpec::new("town", "later").on(2)).unwrap();
    town.mesh.wait_enrolled(&[&later], true, PATIENCE).unwrap();
    town.mesh.wait_enrolled(&[&out], false, PATIENCE).unwrap();
    let (found, seen) = town.on_the_wire(|| probe::dial(&town.client, (out.ip4(), PORT), &[]));
    found.unwrap();
    assert!(seen.clear_bytes > 0);
}

#[test]
fn pods_come_and_go_under_load() {
    let lab = lab("mem_pods");
    let town = Town::meshed(&lab);
    let storm = probe::storm(&town.client, (town.server.ip4(), PORT));
    for number in 0..4u8 {
        let spec = PodSpec::new("town", &format!("visitor-{number}"))
            .on(1 + number % 2)
            .service_account("visitor");
        let visitor = lab.pod(spec).unwrap();
        let _server = probe::serve(&visitor, PORT);
        town.mesh
            .wait_enrolled(&[&visitor], true, PATIENCE)
            .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(20)));
        probe::dial(&town.client, (visitor.ip4(), PORT), &[]).unwrap();
        probe::dial(&visitor, (town.server.ip6(), PORT), &[]).unwrap();
        lab.remove_pod(&visitor).unwrap();
    }
    storm.stop().assert_unharmed("connections between pods that stayed");
    town.assert_works();
}

#[test]
fn a_reused_address_belongs_to_its_new_pod_only() {
    let lab = lab("mem_reuse");
    let town = Town::meshed(&lab);
    let first = lab
        .pod(PodSpec::new("town", "first").on(2).service_account("first"))
        .unwrap();
    let _server = probe::serve(&first, PORT);
    town.mesh.wait_enrolled(&[&first], true, PATIENCE).unwrap();
    probe::dial(&town.client, (first.ip4(), PORT), &[]).unwrap();
    lab.remove_pod(&first).unwrap();
    culvert_lab::wait_until("the address leads nowhere", PATIENCE, || {
        probe::dial(&town.client, (first.ip4(), PORT), &["--timeout", "5"]).is_err()
    })
    .unwrap();
}
