//! ServiceEntries and WorkloadEntries from objects: where connections to their addresses go.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::net::SocketAddr;

use culvert_lab::{Pod, PodSpec, wait_until};
use culvert_tests::{PATIENCE, Town, echo, lab};
use serde_json::{Value, json};

const ECHO: u16 = 9000;
/// Dialled by clients: outside of the mesh's ranges, and the second node refuses it where no entry leads elsewhere.
const VIRTUAL: &str = "198.18.0.2";

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": kind,
        "metadata": { "name": name, "namespace": "town" }, "spec": spec,
    })
}

/// An entry for port 80, which endpoints serve as `web`.
fn entry(addresses: &[&str], more: Value) -> Value {
    let ports = json!([{ "number": 80, "name": "web", "targetPort": ECHO }]);
    let mut spec = json!({ "hosts": ["bank.example"], "addresses": addresses, "ports": ports, "resolution": "STATIC" });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object("ServiceEntry", "bank", spec)
}

fn to(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), 80)
}

#[track_caller]
fn wait_for(town: &Town<'_>, from: &Pod, address: &str, wanted: bool) {
    let reaches = || echo::connect(from, to(address), PATIENCE).is_ok();
    let waited = wait_until(&format!("{address} to be reached: {wanted}"), PATIENCE, || {
        reaches() == wanted
    });
    waited.unwrap_or_else(|error| panic!("{error:#}\n{}", town.lab.logs(20)));
}

#[test]
fn pods_that_an_entry_selects_are_reached_at_its_address_through_the_tunnel() {
    let lab = lab("se_select");
    let town = Town::meshed(&lab);
    echo::serve(&town.server, ECHO);
    let selector = json!({ "workloadSelector": { "labels": { "app": "server" } } });
    lab.apply(&entry(&[VIRTUAL], selector)).unwrap();
    wait_for(&town, &town.client, VIRTUAL, true);
    town.in_the_tunnel(|| echo::connect(&town.client, to(VIRTUAL), PATIENCE).unwrap());
    lab.delete("ServiceEntry", "town", "bank").unwrap();
    wait_for(&town, &town.client, VIRTUAL, false);
}

/// Whoever writes an entry cannot lead the connections of others past the mesh's encryption, or to another pod.
#[test]
fn an_address_that_an_entry_lists_is_reached_as_its_owner_and_no_pods_address_is_taken() {
    let lab = lab("se_owner");
    let mut town = Town::meshed(&lab);
    for pod in [&town.server, &town.neighbour] {
        echo::serve(pod, ECHO);
    }
    let (server, neighbour) = (town.server.ip4().to_string(), town.neighbour.ip4().to_string());
    let list = json!({ "endpoints": [{ "address": server }] });
    lab.apply(&entry(&[VIRTUAL, &neighbour], list)).unwrap();
    wait_for(&town, &town.client, VIRTUAL, true);
    town.in_the_tunnel(|| echo::connect(&town.client, to(VIRTUAL), PATIENCE).unwrap());
    echo::connect(
        &town.client,
        SocketAddr::new(neighbour.parse().unwrap(), ECHO),
        PATIENCE,
    )
    .unwrap();
    wait_until("the access log says who was reached", PATIENCE, || {
        let log = town.mesh.ztunnel(1).unwrap().log();
        let to_neighbour = format!("\"dst.addr\":\"{neighbour}:{ECHO}\"");
        log.lines()
            .any(|line| line.contains(&to_neighbour) && line.contains("\"dst.workload\":\"neighbour\""))
    })
    .unwrap();
    let findings = town.mesh.get_controller("/findings").unwrap().body;
    for word in ["ServiceEntry town/bank", "spec.addresses[1]", "Pod town/neighbour"] {
        assert!(findings.contains(word), "{word}: {findings}");
    }
}

/// By configuration on demand, as it is by default: no address that is dialled leads to a range.
#[test]
fn any_address_of_a_range_leads_to_the_endpoints_of_its_entry_outside_the_mesh_too() {
    let lab = lab("se_range");
    let town = Town::meshed(&lab);
    lab.namespace("outside").unwrap();
    let stranger = lab.pod(PodSpec::new("outside", "stranger").on(2)).unwrap();
    echo::serve(&stranger, ECHO);
    let vm = json!({ "address": stranger.ip4().to_string(), "labels": { "app": "vm" } });
    lab.apply(&object("WorkloadEntry", "vm", vm)).unwrap();
    let list = json!({ "endpoints": [{ "address": stranger.ip4().to_string() }] });
    lab.apply(&entry(&["198.18.0.0/28"], list)).unwrap();
    for address in [VIRTUAL, "198.18.0.1"] {
        wait_for(&town, &town.client, address, true);
    }
    let findings = town.mesh.get_controller("/findings").unwrap().body;
    assert!(
        findings.contains("WorkloadEntry town/vm"),
        "the address is a pod's: {findings}"
    );
    lab.delete("ServiceEntry", "town", "bank").unwrap();
    wait_for(&town, &town.client, VIRTUAL, false);
}

#[test]
fn what_is_not_served_of_an_entry_is_refused_and_named() {
    let lab = lab("se_refused");
    let mut town = Town::meshed(&lab);
    let dynamic = json!({ "resolution": "DYNAMIC_DNS", "endpoints": [{ "address": "bank.internal" }] });
    lab.apply(&entry(&[VIRTUAL], dynamic)).unwrap();
    let refused = "has no healthy endpoint";
    let mut said = || town.mesh.ztunnel(1).unwrap().log().contains(refused);
    wait_until("the refusal is in the access log", PATIENCE, || {
        assert!(echo::connect(&town.client, to(VIRTUAL), PATIENCE).is_err());
        said()
    })
    .unwrap();
    let findings = town.mesh.get_controller("/findings").unwrap().body;
    for word in ["ServiceEntry town/bank", "spec.resolution", "is not served"] {
        assert!(findings.contains(word), "{word}: {findings}");
    }
}
