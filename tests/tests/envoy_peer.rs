//! Envoy at the other end of the tunnel, as Istio's sidecars and waypoints have it: as its client and as its server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{Lab, Pod, PodSpec, wait_until};
use culvert_tests::{
    PATIENCE, Town,
    authority::Authority,
    envoy::{self, FRONTS},
    lab, probe,
    town::PORT,
};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};

/// Another port of the server, which no policy of these tests lets anybody in to.
const CLOSED: u16 = PORT + 1;

/// Every half-close.
const ORDERS: [&str; 3] = ["together", "client-first", "server-first"];
/// More than all windows of either side.
const SIZES: [&str; 6] = ["0:0", "1:0", "0:1", "65535:65536", "20000003:7", "11:20000003"];

/// Transfers of all sizes in these orders of ending.
fn transfers(from: &Pod, to: SocketAddr, orders: &[&str]) {
    for order in orders {
        let mut arguments = vec!["--order", order, "--timeout", "60"];
        for size in SIZES {
            arguments.extend(["--transfer", size]);
        }
        probe::dial(from, to, &arguments).unwrap_or_else(|error| panic!("{order}: {error}"));
    }
}

fn front(number: usize) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, FRONTS[number]).into()
}

fn policy(name: &str, action: &str, principal: &str, port: u16) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": name, "namespace": "town" },
        "spec": {
            "selector": { "matchLabels": { "app": "server" } },
            "action": action,
            "rules": [{
                "from": [{ "source": { "principals": [principal] } }],
                "to": [{ "operation": { "ports": [port.to_string()] } }],
            }],
        },
    })
}

/// A pod outside the mesh's capture, in which Envoy is the client.
fn envoys_pod(lab: &Lab) -> Pod {
    let spec = PodSpec::new("town", "envoy").on(1).service_account("envoy");
    lab.pod(spec.label("culvert.dev/mesh", "none")).unwrap()
}

#[test]
fn envoy_as_a_client_is_let_in_by_its_identity_and_keeps_every_byte() {
    let lab = lab("envoy_client");
    let mut town = Town::meshed(&lab);
    let closed = probe::serve(&town.server, CLOSED);
    town.processes.push(closed);
    let pod = envoys_pod(&lab);
    let authority = Authority::of(&lab);
    let leaf = authority.leaf(&[&pod.identity()]);
    let targets = [PORT, CLOSED].map(|port| SocketAddr::from((town.server.ip4(), port)));
    let _envoy = envoy::client(&lab, &pod, &authority, &leaf, &town.server.identity(), targets);
    let reaches = |number| probe::dial(&pod, front(number), &["--timeout", "10"]).is_ok();

    // Without a policy both are let in, and nothing is lost.
    town.in_the_tunnel(|| transfers(&pod, front(0), &ORDERS));
    assert!(reaches(1));

    // ALLOW: Envoy's identity, on one port.
    lab.apply(&policy("allow", "ALLOW", "cluster.local/ns/town/sa/envoy", PORT))
        .unwrap();
    wait_until("the other port is denied", PATIENCE, || !reaches(1)).unwrap();
    transfers(&pod, front(0), &ORDERS);
    let to = (town.server.ip4(), PORT);
    let others = || probe::dial(&town.client, to, &["--timeout", "10"]);
    assert!(others().is_err(), "another identity is let in");

    // DENY goes before ALLOW.
    lab.apply(&policy("deny", "DENY", "cluster.local/ns/town/sa/envoy", PORT))
        .unwrap();
    wait_until("Envoy is denied", PATIENCE, || !reaches(0)).unwrap();
    lab.delete("AuthorizationPolicy", "town", "deny").unwrap();
    wait_until("Envoy is let in again", PATIENCE, || reaches(0)).unwrap();

    // The access log knows who it was.
    let log = town.mesh.ztunnel(2).unwrap().log();
    let identity = pod.identity();
    assert!(log.contains(&identity), "no line names {identity}");
}

#[test]
fn envoy_as_a_client_does_not_speak_to_another_identity_than_it_expects() {
    let lab = lab("envoy_other");
    let town = Town::meshed(&lab);
    let pod = envoys_pod(&lab);
    let authority = Authority::of(&lab);
    let leaf = authority.leaf(&[&pod.identity()]);
    let targets = [SocketAddr::from((town.server.ip4(), PORT)); 2];
    let _envoy = envoy::client(&lab, &pod, &authority, &leaf, &town.neighbour.identity(), targets);
    let answer = probe::dial(&pod, front(0), &["--timeout", "10"]);
    assert!(answer.is_err(), "{answer:?}");
}

/// Envoy serves a pod of which the mesh believes that it is enrolled: the agent of its node has gone.
fn with_envoy_as_server(name: &str, identity: impl FnOnce(&Pod) -> String, work: impl FnOnce(&mut Town<'_>, &Pod)) {
    let lab = lab(name);
    let mut town = Town::meshed(&lab);
    town.mesh.agent(2).unwrap().kill().unwrap();
    let spec = PodSpec::new("town", "envoy").on(2).service_account("envoy");
    let pod = lab.pod(spec).unwrap();
    let authority = Authority::of(&lab);
    let leaf = authority.leaf(&[&identity(&pod)]);
    let client = town.client.identity();
    let _envoy = envoy::server(&lab, &pod, &authority, &leaf, &client, PORT);
    let _application = probe::serve(&pod, PORT);
    work(&mut town, &pod);
}

#[test]
fn envoy_as_a_server_is_reached_through_the_tunnel_and_every_byte_is_kept() {
    with_envoy_as_server("envoy_server", Pod::identity, |town, pod| {
        town_in_the_tunnel(town, pod);
        // Envoy 1.40 takes an application's half-close for the end of both directions, and resets the stream that a client still
        // sends on: the client has to be first.
        let to = SocketAddr::from((pod.ip4(), PORT));
        town.in_the_tunnel(|| transfers(&town.client, to, &["client-first"]));
        town.in_the_tunnel(|| {
            let bulk = ["--transfer", "11:50000003", "--timeout", "60"];
            probe::dial(&town.client, to, &bulk).unwrap();
        });
        // Envoy asks for the client's certificate: another identity of ours is refused.
        let answer = probe::dial(&town.neighbour, (pod.ip4(), PORT), &["--timeout", "15"]);
        assert!(answer.is_err(), "{answer:?}");
    });
}

#[test]
fn envoy_as_a_server_with_another_identity_gets_no_byte() {
    let somebody = |_: &Pod| "spiffe://cluster.local/ns/town/sa/somebody-else".to_owned();
    with_envoy_as_server("envoy_wrong", somebody, |town, pod| {
        // Until the controller has told of the new pod, it may pass as one outside the mesh.
        let refused = || {
            let (answer, seen) =
                town.on_the_wire(|| probe::dial(&town.client, (pod.ip4(), PORT), &["--timeout", "15"]));
            answer.is_err() && seen.encrypted_bytes > 0 && seen.clear_bytes == 0
        };
        wait_until("Envoy is refused for its identity", PATIENCE, refused).unwrap();
    });
}

/// Waits until connections to a pod without an agent are in the tunnel.
fn town_in_the_tunnel(town: &Town<'_>, pod: &Pod) {
    let mut last = String::new();
    let waited = wait_until("connections go to Envoy's tunnel port", PATIENCE, || {
        let (answer, seen) = town.on_the_wire(|| probe::dial(&town.client, (pod.ip4(), PORT), &["--timeout", "15"]));
        last = format!("{answer:?} {seen:?}");
        answer.is_ok() && seen.clear_bytes == 0 && seen.encrypted_bytes > 0
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {last}"));
}
