//! Configuration that is wrong: it is reported, denies what it concerns, and leaves the rest working.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::PodSpec;
use culvert_tests::{PATIENCE, Town, lab, probe, town::PORT};
use serde_json::json;

/// Waits until the controller reports a finding that contains all of these words.
#[track_caller]
fn wait_for_finding(town: &Town<'_>, words: &[&str]) {
    let mut last = String::new();
    let found = culvert_lab::wait_until("the finding", PATIENCE, || {
        let Ok(response) = town.mesh.get_controller("/findings") else {
            return false;
        };
        last = response.body;
        words.iter().all(|word| last.contains(word))
    });
    found.unwrap_or_else(|error| panic!("{error:#}: {words:?}, but: {last}"));
}

#[test]
fn a_broken_file_is_reported_and_the_last_good_state_stays() {
    let lab = lab("conf_yaml");
    let town = Town::meshed(&lab);
    for broken in [
        "kind: Pod\n  apiVersion: v1\n",
        "a: [",
        "\u{0}\u{1}\u{2}",
        "---\n- 1\n- 2\n",
    ] {
        lab.write_config("broken.yaml", broken).unwrap();
        wait_for_finding(&town, &["broken.yaml"]);
        town.assert_works();
    }
    lab.write_config("broken.yaml", "").unwrap();
    culvert_lab::wait_until("the finding is gone", PATIENCE, || {
        town.mesh
            .get_controller("/findings")
            .is_ok_and(|response| !response.body.contains("broken.yaml"))
    })
    .unwrap();
}

#[test]
fn a_finding_names_file_document_and_field() {
    let lab = lab("conf_field");
    let town = Town::meshed(&lab);
    let text = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: fine, namespace: town}\n---\n\
                apiVersion: v1\nkind: Service\nmetadata: {name: bad, namespace: town}\nspec: {ports: [{port: \"eighty\"}]}\n";
    lab.write_config("two.yaml", text).unwrap();
    wait_for_finding(&town, &["two.yaml", "bad", "port"]);
    town.assert_works();
}

#[test]
fn an_unknown_label_value_does_not_enrol_and_is_reported() {
    let lab = lab("conf_label");
    let town = Town::meshed(&lab);
    lab.namespace("strange").unwrap();
    let pod = lab.pod(PodSpec::new("strange", "pod").on(2)).unwrap();
    lab.label("strange", Some("ambiguous")).unwrap();
    wait_for_finding(&town, &["ambiguous"]);
    town.mesh.wait_enrolled(&[&pod], false, PATIENCE).unwrap();
    town.assert_works();
}

#[test]
fn a_malformed_address_is_reported_and_hurts_only_its_pod() {
    let lab = lab("conf_addr");
    let town = Town::meshed(&lab);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "malformed", "namespace": "town" },
        "spec": { "nodeName": "node2", "containers": [{ "name": "app", "image": "x" }] },
        "status": { "phase": "Running", "podIP": "198.18.2.999", "podIPs": [{ "ip": "198.18.2.999" }] },
    });
    lab.apply(&pod).unwrap();
    wait_for_finding(&town, &["malformed", "198.18.2.999"]);
    town.assert_works();
}

#[test]
fn a_pod_that_claims_anothers_address_does_not_get_its_traffic() {
    let lab = lab("conf_twice");
    let town = Town::meshed(&lab);
    let thief = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "thief", "namespace": "town", "uid": "thief" },
        "spec": { "nodeName": "node1", "serviceAccountName": "client", "containers": [{ "name": "app", "image": "x" }] },
        "status": { "phase": "Running", "podIP": town.server.ip4(), "podIPs": [{ "ip": town.server.ip4() }] },
    });
    lab.apply(&thief).unwrap();
    wait_for_finding(&town, &["thief", &town.server.ip4().to_string()]);
    // Whoever the mesh believes owns the address, the pods that nobody disputes go on.
    probe::dial(&town.client, (town.neighbour.ip4(), PORT), &[]).unwrap();
    probe::dial(&town.client, (town.neighbour.ip6(), PORT), &[]).unwrap();
}

#[test]
fn a_pod_whose_namespace_vanished_hurts_nobody() {
    let lab = lab("conf_netns");
    let town = Town::meshed(&lab);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "ghost", "namespace": "town", "uid": "ghost",
            "annotations": { "culvert.dev/netns": "cv-no-such-namespace" },
        },
        "spec": { "nodeName": "node1", "containers": [{ "name": "app", "image": "x" }] },
        "status": { "phase": "Running", "podIP": "198.18.1.200", "podIPs": [{ "ip": "198.18.1.200" }] },
    });
    lab.apply(&pod).unwrap();
    let log = || std::fs::read_to_string(lab.dir().join("log/node1-agent.log")).unwrap_or_default();
    culvert_lab::wait_until("the agent names the pod and the namespace", PATIENCE, || {
        log()
            .lines()
            .any(|line| line.contains("ghost") && line.contains("cv-no-such-namespace"))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", log()));
    let next = lab.pod(PodSpec::new("town", "next").on(1)).unwrap();
    town.mesh.wait_enrolled(&[&next], true, PATIENCE).unwrap();
    town.assert_works();
}

#[test]
fn a_missing_service_account_is_reported_and_hurts_only_its_pod() {
    let lab = lab("conf_sa");
    let town = Town::meshed(&lab);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "nobody", "namespace": "town", "uid": "nobody" },
        "spec": { "nodeName": "node2", "serviceAccountName": "no-such-account", "containers": [{ "name": "app", "image": "x" }] },
        "status": { "phase": "Running", "podIP": "198.18.2.201", "podIPs": [{ "ip": "198.18.2.201" }] },
    });
    lab.apply(&pod).unwrap();
    wait_for_finding(&town, &["nobody", "no-such-account"]);
    town.assert_works();
}
