//! What pods of a namespace may reach beside what the mesh knows.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    thread,
};

use culvert_lab::{Lab, wait_until};
use culvert_tests::{PATIENCE, Town, echo, lab};
use serde_json::json;

const ECHO: u16 = 9000;

/// Answers a byte of each connection, on the second node and in no pod: outside the mesh and its ranges.
fn serve_outside(lab: &Lab) -> SocketAddr {
    let node = lab.node(2);
    let address = SocketAddr::from((node.ip4(), ECHO));
    let listener = node.run(|| TcpListener::bind(address)).unwrap().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut byte = [0];
            // A client that is gone is nothing to those after it.
            let _ = stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte));
        }
    });
    address
}

fn annotate(lab: &Lab, policy: &str) {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": "town", "labels": { "culvert.dev/mesh": "ambient" },
            "annotations": { "culvert.dev/outbound-traffic-policy": policy },
        },
    });
    lab.apply(&namespace).unwrap();
}

#[track_caller]
fn wait_for(town: &Town<'_>, to: SocketAddr, wanted: bool) {
    let reaches = || echo::connect(&town.client, to, PATIENCE).is_ok();
    let waited = wait_until(&format!("{to} to be reached: {wanted}"), PATIENCE, || {
        reaches() == wanted
    });
    waited.unwrap_or_else(|error| panic!("{error:#}\n{}", town.lab.logs(20)));
}

#[test]
fn pods_of_a_registry_only_namespace_leave_the_mesh_for_what_it_knows_alone() {
    let lab = lab("out_only");
    let mut town = Town::meshed(&lab);
    let outside = serve_outside(&lab);
    let inside = echo::serve(&town.server, ECHO);
    wait_for(&town, outside, true);
    annotate(&lab, "registry-only");
    wait_for(&town, outside, false);
    echo::connect(&town.client, inside, PATIENCE).unwrap();
    let waited = wait_until("log and metrics say why", PATIENCE, || {
        let log = town.mesh.ztunnel(1).unwrap().log();
        let metrics = town.mesh.get(1, 15020, "/metrics").unwrap().body;
        log.contains("namespace town is registry-only")
            && metrics.contains("culvert_ztunnel_denied_connections_total{reason=\"not_in_registry\"}")
    });
    waited.unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(30)));

    let entry = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": { "name": "node", "namespace": "town" },
        "spec": {
            "hosts": ["node.example"], "addresses": [outside.ip().to_string()], "resolution": "NONE",
            "ports": [{ "number": ECHO, "name": "echo" }],
        },
    });
    lab.apply(&entry).unwrap();
    wait_for(&town, outside, true);
    lab.delete("ServiceEntry", "town", "node").unwrap();
    wait_for(&town, outside, false);
    annotate(&lab, "allow-any");
    wait_for(&town, outside, true);
}

#[test]
fn a_policy_that_nobody_understands_lets_nothing_out_and_is_named() {
    let lab = lab("out_odd");
    let town = Town::meshed(&lab);
    let outside = serve_outside(&lab);
    wait_for(&town, outside, true);
    annotate(&lab, "REGISTRY_ONLY");
    wait_for(&town, outside, false);
    let findings = town.mesh.get_controller("/findings").unwrap().body;
    for word in ["Namespace town", "culvert.dev/outbound-traffic-policy", "REGISTRY_ONLY"] {
        assert!(findings.contains(word), "{word}: {findings}");
    }
}
