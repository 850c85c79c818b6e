//! Policies of a real API server: obeyed, changed, and kept while the controllers that read them are away.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use culvert_cluster_tests::{HTTP, PodSpec, Space, World, until};
use serde_json::{Value, json};
use std::{
    io::Write,
    process::{Output, Stdio},
};

/// A strict pod's guard says nothing to whom it refuses, who would otherwise wait for half a minute each time.
const REFUSED_AFTER: &str = "--timeout=10";

fn policy(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": kind, "metadata": { "name": name }, "spec": spec,
    })
}

/// Waits until one pod reaches another's HTTP, or does not.
fn wait_for(space: &Space<'_>, from: &str, to: &Space<'_>, wanted: bool) {
    let address = to.address("server");
    until(&format!("{from} to reach the server: {wanted}"), || {
        space.ask(from, &[REFUSED_AFTER, "--to", &address]).remove(0)["ok"] == wanted
    });
}

/// `culvert policy test` with one object, as JSON.
fn tried(world: &World, object: &Value) -> (Option<i32>, Value) {
    let mut command = world.culvert();
    command
        .args(["policy", "test", "-f", "-", "-o", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(object.to_string().as_bytes())
        .unwrap();
    let Output { status, stdout, .. } = child.wait_with_output().unwrap();
    (status.code(), serde_json::from_slice(&stdout).unwrap_or_default())
}

#[test]
fn policies_are_obeyed_as_they_come_and_go_and_outlive_the_controllers() {
    let world = World::installed();
    let (space, outside) = (world.space("policies"), world.space("policies-outside"));
    space.start(&[
        PodSpec::server("server").on("node2"),
        PodSpec::idle("client").on("node1"),
    ]);
    outside.start(&[PodSpec::idle("stranger").on("node1")]);
    space.enrol();
    space.wait_captured(&["server", "client"]);
    wait_for(&space, "client", &space, true);
    wait_for(&outside, "stranger", &space, true);

    let strict = policy("PeerAuthentication", "default", json!({ "mtls": { "mode": "STRICT" } }));
    let mut placed = strict.clone();
    placed["metadata"]["namespace"] = space.name().into();
    // Nothing is applied, and it is known who came without a certificate.
    let (code, answer) = tried(&world, &placed);
    assert_eq!(code, Some(1), "{answer:#}");
    let stranger = outside.ip("stranger").to_string();
    let refused = answer["refused"].as_array().unwrap();
    let sources: Vec<&Value> = refused.iter().map(|one| &one["traffic"]["source"]).collect();
    assert!(sources.contains(&&stranger.as_str().into()), "{answer:#}");
    let client = space.ip("client").to_string();
    assert!(!sources.contains(&&client.as_str().into()), "{answer:#}");
    wait_for(&outside, "stranger", &space, true);

    space.apply(strict);
    wait_for(&outside, "stranger", &space, false);
    wait_for(&space, "client", &space, true);

    let other_port =
        json!({ "action": "DENY", "rules": [{ "to": [{ "operation": { "notPorts": [(HTTP + 1).to_string()] } }] }] });
    space.apply(policy("AuthorizationPolicy", "only-greet", other_port));
    wait_for(&space, "client", &space, false);
    space.kubectl(&["delete", "authorizationpolicy", "only-greet"]);
    wait_for(&space, "client", &space, true);

    // A new leader has heard of no policy before it says anything.
    let system = ["-n", "culvert-system"];
    world.kubectl(&[&system[..], &["rollout", "restart", "deployment/culvert-controller"]].concat());
    world.wait_ready();
    let address = space.address("server");
    let stranger = outside.ask("stranger", &[REFUSED_AFTER, "--to", &address]).remove(0);
    assert_eq!(stranger["ok"], false, "{stranger}");
    wait_for(&space, "client", &space, true);

    let layer_7 = json!({ "action": "DENY", "rules": [{ "to": [{ "operation": { "paths": ["/admin"] } }] }] });
    space.apply(policy("AuthorizationPolicy", "admin", layer_7));
    wait_for(&space, "client", &space, false);
    let condition = |kind: &str, name: &str| {
        let object = space.get(&[kind, name]);
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ours = conditions.into_iter().find(|one| one["type"] == "culvert.dev/InForce");
        ours.unwrap_or_default()
    };
    until(
        "the policies' status to say which of them is in force as it is written",
        || {
            let (admin, strict) = (
                condition("authorizationpolicy", "admin"),
                condition("peerauthentication", "default"),
            );
            let says_why = admin["message"]
                .as_str()
                .is_some_and(|message| message.contains("operation.paths"));
            admin["status"] == "False" && says_why && strict["status"] == "True"
        },
    );
    world.wait_event(space.name(), "admin", "what holds instead", |_, note| {
        note.contains("spec.rules[0].to[0].operation.paths") && note.contains("layer 7")
    });
}
