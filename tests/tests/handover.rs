//! Pods between agent and proxy: who may die without a connection noticing, and pods that are not what they seem.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{process::Command, thread};

use culvert_lab::{Lab, MeshOptions};
use culvert_tests::{PATIENCE, Town, lab, probe, town::PORT};
use serde_json::{Value, json};

/// Kills node 1's proxy with its worker, lets the client dial, and starts the next proxy.
fn dial_while_there_is_no_proxy(lab: &Lab, town: &mut Town<'_>) {
    let (client, to) = (town.client.clone(), (town.server.ip4(), PORT));
    let worker = town.mesh.worker_pid(1).unwrap();
    town.mesh.ztunnel(1).unwrap().kill().unwrap();
    culvert_lab::wait_until("the worker ends with its monitor", PATIENCE, || {
        !std::path::Path::new(&format!("/proc/{worker}")).exists()
    })
    .unwrap();
    let dialled = thread::spawn(move || probe::dial(&client, to, &["--timeout", "30"]));
    town.mesh.start_ztunnel(1).unwrap();
    let found = dialled.join().unwrap();
    found.unwrap_or_else(|error| panic!("{error}\n{}", lab.logs(20)));
}

#[test]
fn a_connection_made_while_there_is_no_proxy_waits_for_the_next_one() {
    let lab = lab("ho_proxy");
    let mut town = Town::meshed(&lab);
    dial_while_there_is_no_proxy(&lab, &mut town);
    town.in_the_tunnel(|| probe::dial(&town.client, (town.server.ip6(), PORT), &[]))
        .unwrap();
}

#[test]
fn a_restarted_agent_holds_the_listeners_again() {
    let lab = lab("ho_agent");
    let mut town = Town::meshed(&lab);
    town.mesh.restart_agent(1).unwrap();
    culvert_lab::wait_until("listeners are taken back", PATIENCE, || {
        let log = town.mesh.agent(1).map(|agent| agent.log()).unwrap_or_default();
        log.matches("took the pod's listeners back").count() == 2
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(20)));
    dial_while_there_is_no_proxy(&lab, &mut town);
}

#[test]
fn agent_and_proxy_may_both_die() {
    let lab = lab("ho_both");
    let mut town = Town::meshed(&lab);
    town.mesh.agent(1).unwrap().kill().unwrap();
    town.mesh.ztunnel(1).unwrap().kill().unwrap();
    let found = probe::dial(&town.client, (town.server.ip4(), PORT), &["--timeout", "2"]);
    assert!(
        found.is_err(),
        "a captured pod must not get through in clear: {found:?}"
    );
    town.mesh.start_agent(1).unwrap();
    town.mesh.wait_for_agent(1).unwrap();
    town.mesh.start_ztunnel(1).unwrap();
    town.in_the_tunnel(|| probe::dial(&town.client, (town.server.ip4(), PORT), &["--timeout", "30"]))
        .unwrap_or_else(|error| panic!("{error}\n{}", lab.logs(20)));
}

/// What the agent of node 1 says about a pod.
fn shown(town: &Town<'_>, name: &str) -> Option<Value> {
    let pods: Value = serde_json::from_str(&town.mesh.get(1, 15022, "/pods").ok()?.body).ok()?;
    pods["pods"].as_array()?.iter().find(|pod| pod["name"] == name).cloned()
}

#[track_caller]
fn wait_for_state(town: &Town<'_>, name: &str, state: &str, words: &[&str]) {
    let mut last = None;
    let waited = culvert_lab::wait_until("the pod's state", PATIENCE, || {
        last = shown(town, name);
        last.as_ref().is_some_and(|pod| {
            let error = pod["error"].as_str().unwrap_or_default();
            pod["state"] == state && words.iter().all(|word| error.contains(word))
        })
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {name} {state} {words:?}, but: {last:?}"));
}

fn ip(arguments: &[&str]) {
    assert!(
        Command::new("ip").args(arguments).status().unwrap().success(),
        "ip {arguments:?}"
    );
}

fn stray(name: &str, netns: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "town", "annotations": { "culvert.dev/netns": netns } },
        "spec": { "nodeName": "node1", "containers": [{ "name": "c", "image": "i" }] },
        "status": { "podIP": address, "phase": "Running" },
    })
}

#[test]
fn a_pod_without_its_namespace_or_address_fails_alone_and_comes_in_when_it_appears() {
    let lab = lab("ho_netns");
    let town = Town::with(&lab, MeshOptions::default());
    let netns = format!("{}-stray", town.client.netns().name());
    lab.apply(&stray("stray", &netns, "198.18.1.200")).unwrap();
    wait_for_state(&town, "stray", "failed", &["/run/netns/", &netns, "No such file"]);
    town.assert_works();

    ip(&["netns", "add", &netns]);
    wait_for_state(&town, "stray", "captured", &[]);
    ip(&["netns", "del", &netns]);
    wait_for_state(&town, "stray", "failed", &[&netns]);
    town.assert_works();
    lab.delete("Pod", "town", "stray").unwrap();

    // Before it has any address, the kernel takes every address for its own.
    ip(&["netns", "add", &netns]);
    ip(&["-n", &netns, "link", "set", "lo", "up"]);
    lab.apply(&stray("early", &netns, "198.18.1.201")).unwrap();
    wait_for_state(&town, "early", "failed", &["198.18.1.201:15001", "address"]);
    ip(&["-n", &netns, "addr", "add", "198.18.1.201/32", "dev", "lo"]);
    wait_for_state(&town, "early", "captured", &[]);
    ip(&["netns", "del", &netns]);
}

#[test]
fn a_namespace_has_one_pod() {
    let lab = lab("ho_twice");
    let town = Town::meshed(&lab);
    let netns = town.client.netns().name().to_owned();
    lab.apply(&stray("a-thief", &netns, "198.18.1.201")).unwrap();
    wait_for_state(&town, "a-thief", "refused", &[&netns, "town/client"]);
    lab.apply(&stray("b-thief", &format!("/var/run/netns/{netns}"), "198.18.1.202"))
        .unwrap();
    wait_for_state(&town, "b-thief", "failed", &[&netns, "town/client"]);
    town.assert_works();
}
