//! Certificates that are revoked: a list in a file beside the authority, as Istio's `ca-crl.pem`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{MeshOptions, Pod, wait_until};
use culvert_tests::{PATIENCE, Town, authority::Authority, echo, lab, town::PORT};
use serde_json::Value;
use std::{fs, net::SocketAddr};

/// Where the echo is, beside the town's own servers.
const ECHO: u16 = PORT + 1;

/// The serial number of a pod's certificate.
fn serial(town: &Town<'_>, pod: &Pod) -> String {
    let page = town.mesh.get(pod.node(), 15000, "/certificates").unwrap().body;
    let page: Value = serde_json::from_str(&page).unwrap();
    let all = page["certificates"].as_array().unwrap();
    let own = all.iter().find(|one| one["identity"] == pod.identity()).unwrap();
    own["serial"].as_str().unwrap().to_owned()
}

#[test]
fn whose_certificate_is_revoked_opens_no_connection_and_others_do() {
    let lab = lab("crl");
    let list = lab.dir().join("ca-crl.pem");
    let town = Town::with(
        &lab,
        MeshOptions {
            controller_args: vec!["--ca-crl".into(), list.display().to_string()],
            // A tunnel that is there takes no new connections; what is open in it ends.
            ztunnel_args: vec!["--tunnel-grace".into(), "1s".into()],
            ..MeshOptions::default()
        },
    );
    echo::serve(&town.server, ECHO);
    let to: SocketAddr = (town.server.ip4(), ECHO).into();
    let reaches = |pod: &Pod| echo::connect(pod, to, PATIENCE).is_ok();
    assert!(reaches(&town.client) && reaches(&town.neighbour));
    let mut open = echo::connect(&town.client, to, PATIENCE).unwrap();

    let authority = Authority::of(&lab);
    fs::write(&list, authority.revoke(&[&serial(&town, &town.client)])).unwrap();
    wait_until("the client to be refused", PATIENCE, || !reaches(&town.client)).unwrap();
    assert!(reaches(&town.neighbour));
    wait_until("what the client had open to end", PATIENCE, || {
        echo::round_trip(&mut open).is_err()
    })
    .unwrap();
    wait_until("the log to say why", PATIENCE, || lab.logs(200).contains("Revoked"))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(50)));

    // A list that cannot be used changes nothing, and is named.
    fs::write(&list, "not a list").unwrap();
    wait_until("the finding", PATIENCE, || {
        let findings = town.mesh.get_controller("/findings").unwrap().body;
        findings.contains("--ca-crl") && findings.contains("ca-crl.pem")
    })
    .unwrap();
    assert!(!reaches(&town.client) && reaches(&town.neighbour));

    fs::write(&list, authority.revoke(&[])).unwrap();
    wait_until("the client to be let in again", PATIENCE, || reaches(&town.client)).unwrap();
}
