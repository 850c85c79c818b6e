//! Waypoints on a cluster: made for a Gateway, repaired, restarted, and gone with it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper that fails is a test that fails"
)]

use culvert_cluster_tests::{GatewayApi, Space, World, until};
use serde_json::{Value, json};
use std::process::Output;

/// What a waypoint consists of.
const PARTS: [&str; 4] = ["serviceaccount", "deployment", "service", "poddisruptionbudget"];

#[test]
fn a_gateway_becomes_a_waypoint_that_is_repaired_and_goes_with_it() {
    let world = World::installed();
    let _api = GatewayApi::install(&world);
    let space = world.space("waypoint-parts");
    culvert(&space, &["waypoint", "apply", "wp"]);
    until("all parts of the waypoint", || parts(&space, "wp").len() == PARTS.len());
    for part in parts(&space, "wp") {
        let metadata = &part["metadata"];
        assert_eq!(metadata["labels"]["gateway.networking.k8s.io/gateway-name"], "wp");
        assert_eq!(metadata["ownerReferences"][0]["kind"], "Gateway");
    }
    until("the classes", || {
        let classes = world.get(&["gatewayclasses"]);
        let of = |name: &str| word(find(&classes, name), "Accepted");
        of("culvert-waypoint") == "True" && of("culvert-envoy") == "True"
    });
    until("the Gateway's status", || {
        let gateway = space.get(&["gateway", "wp"]);
        let address = format!("wp.{}.svc.cluster.local", space.name());
        word(&gateway, "Accepted") == "True" && gateway["status"]["addresses"][0]["value"] == *address
    });

    // Drift is repaired, whatever it is, and what is left to others is not.
    let patch = r#"{"spec":{"ports":[{"name":"hbone","port":15008,"targetPort":1}]}}"#;
    space.kubectl(&["patch", "service", "wp", "-p", patch]);
    space.kubectl(&["delete", "poddisruptionbudget", "wp"]);
    space.kubectl(&["scale", "deployment", "wp", "--replicas=2"]);
    until("the waypoint to be as it was", || {
        let service = space.get(&["service", "wp"]);
        let ports = service["spec"]["ports"].as_array().unwrap();
        let target = ports
            .iter()
            .find(|port| port["port"] == 15008)
            .map(|port| &port["targetPort"]);
        target == Some(&json!("hbone")) && parts(&space, "wp").len() == PARTS.len()
    });
    assert_eq!(
        space.get(&["deployment", "wp"])["spec"]["replicas"],
        2,
        "whoever scales it is not overruled"
    );

    // What a Gateway asks for is brought to all of it.
    let labels = r#"{"spec":{"infrastructure":{"labels":{"team":"books"}}}}"#;
    space.kubectl(&["patch", "gateway", "wp", "--type=merge", "-p", labels]);
    until("the label that was asked for", || {
        let labelled = parts(&space, "wp")
            .into_iter()
            .filter(|part| part["metadata"]["labels"]["team"] == "books");
        let template = &space.get(&["deployment", "wp"])["spec"]["template"]["metadata"]["labels"]["team"];
        labelled.count() == PARTS.len() && template == "books"
    });

    culvert(&space, &["waypoint", "delete", "wp"]);
    until("every part to be gone", || parts(&space, "wp").is_empty());
}

#[test]
fn what_is_anothers_is_left_alone_and_the_gateway_says_so() {
    let world = World::installed();
    let _api = GatewayApi::install(&world);
    let space = world.space("waypoint-taken");
    let theirs = json!({ "ports": [{ "port": 80 }], "selector": { "app": "theirs" } });
    space.apply(json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "taken" }, "spec": theirs }));
    culvert(&space, &["waypoint", "apply", "taken"]);
    until("the Gateway to say why it is no waypoint", || {
        let gateway = space.get(&["gateway", "taken"]);
        let said = condition(&gateway, "Programmed")["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        word(&gateway, "Programmed") == "Invalid" && said.contains("Service") && said.contains("is not this Gateway's")
    });
    let service = space.get(&["service", "taken"]);
    assert_eq!(service["spec"]["selector"], json!({ "app": "theirs" }));
    assert_eq!(service["metadata"]["ownerReferences"], Value::Null);
}

#[test]
fn a_waypoint_comes_up_and_restarts_without_being_missed() {
    let world = World::installed();
    let _api = GatewayApi::install(&world);
    let space = world.space("waypoint-up");
    let applied = culvert(
        &space,
        &["waypoint", "apply", "wp", "--enroll-namespace", "--wait", "-o", "json"],
    );
    let applied: Value = serde_json::from_slice(&applied.stdout).unwrap();
    assert_eq!(applied["waypoint"]["programmed"]["status"], "True", "{applied}");
    assert_eq!(applied["asked-for-by"][0]["object"], space.name(), "{applied}");
    let pods = space.get(&["pods", "-l", "gateway.networking.k8s.io/gateway-name=wp"]);
    let spec = &pods["items"][0]["spec"];
    assert_eq!(spec["containers"].as_array().unwrap().len(), 1);
    assert_eq!(spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);

    space.kubectl(&["rollout", "restart", "deployment/wp"]);
    space.kubectl(&["rollout", "status", "deployment/wp", "--timeout=120s"]);
    until("the waypoint to serve again", || {
        word(&space.get(&["gateway", "wp"]), "Programmed") == "True"
    });
    culvert(&space, &["waypoint", "status", "wp"]);
    let left = culvert(&space, &["waypoint", "delete", "wp", "-o", "json"]);
    let left: Value = serde_json::from_slice(&left.stdout).unwrap();
    assert_eq!(left["still-asked-for-by"][0]["object"], space.name(), "{left}");
    until("every part to be gone", || parts(&space, "wp").is_empty());
}

/// Runs `culvert` in the namespace; it must succeed.
fn culvert(space: &Space<'_>, arguments: &[&str]) -> Output {
    let mut command = space.world().culvert();
    let output = command
        .args(arguments)
        .args(["--namespace", space.name()])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    output
}

/// What there is of a waypoint.
fn parts(space: &Space<'_>, name: &str) -> Vec<Value> {
    let label = format!("gateway.networking.k8s.io/gateway-name={name}");
    let all = space.get(&[&PARTS.join(","), "-l", &label]);
    all["items"].as_array().cloned().unwrap_or_default()
}

fn find<'a>(list: &'a Value, name: &str) -> &'a Value {
    let mut items = list["items"].as_array().into_iter().flatten();
    items
        .find(|item| item["metadata"]["name"] == name)
        .unwrap_or(&Value::Null)
}

fn condition<'a>(object: &'a Value, name: &str) -> &'a Value {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.find(|one| one["type"] == name).unwrap_or(&Value::Null)
}

/// `True`, or the reason why not; nothing where nothing is said.
fn word(object: &Value, name: &str) -> String {
    let one = condition(object, name);
    let key = if one["status"] == "True" { "status" } else { "reason" };
    one[key].as_str().unwrap_or_default().to_owned()
}
