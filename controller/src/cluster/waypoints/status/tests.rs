use culvert_objects::{Object, parse};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{Progress, of_class, of_gateway};
use crate::cluster::waypoints::gateway::Asked;
use crate::model::OfGateway;

fn asked(spec: &str) -> Asked {
    let text = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n\
         metadata: {{name: wp, namespace: shop, uid: u, generation: 3}}\nspec: {spec}\n"
    );
    let mut parsed = parse(&text, false);
    let Object::Gateway(gateway) = parsed.documents.remove(0).object else {
        panic!("{:?}", parsed.faults)
    };
    Asked::of(&gateway).unwrap()
}

const FINE: &str = "{gatewayClassName: culvert-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn status(spec: &str, progress: &Progress) -> Value {
    of_gateway(&asked(spec), progress, "cluster.local", &Value::Null, at(10))
}

/// `True`, or the reason why not.
fn word(of: &Value, name: &str) -> String {
    let conditions = of["conditions"].as_array().unwrap();
    let one = conditions.iter().find(|one| one["type"] == name).unwrap();
    let key = if one["status"] == "True" { "status" } else { "reason" };
    one[key].as_str().unwrap().to_owned()
}

#[test]
fn a_gateway_is_accepted_at_once_and_programmed_when_a_pod_serves() {
    let waits = status(FINE, &Progress::default());
    assert_eq!(
        (word(&waits, "Accepted"), word(&waits, "Programmed")),
        ("True".into(), "Pending".into())
    );
    assert_eq!(
        waits["addresses"],
        json!([{ "type": "Hostname", "value": "wp.shop.svc.cluster.local" }])
    );
    let serves = Progress {
        available: 1,
        attached: 2,
        ..Progress::default()
    };
    let serves = status(FINE, &serves);
    assert_eq!(word(&serves, "Programmed"), "True");
    let listener = &serves["listeners"][0];
    assert_eq!(
        (&listener["name"], &listener["attachedRoutes"]),
        (&json!("mesh"), &json!(2))
    );
    assert_eq!(
        (word(listener, "Accepted"), word(listener, "Programmed")),
        ("True".into(), "True".into())
    );
    assert_eq!(
        (word(listener, "ResolvedRefs"), word(listener, "Conflicted")),
        ("True".into(), "NoConflicts".into())
    );
    assert_eq!(listener["supportedKinds"].as_array().unwrap().len(), 4);
    assert_eq!(serves["conditions"][0]["observedGeneration"], 3);
}

#[test]
fn what_a_waypoint_cannot_be_is_refused_with_the_place_where_it_is_asked_for() {
    let refused = |spec: &str, reason: &str, place: &str| {
        let asked = asked(spec);
        let refusal = asked.refusal.unwrap_or_else(|| panic!("{spec} is accepted"));
        assert_eq!(refusal.reason, reason, "{spec}");
        assert!(refusal.message.contains(place), "{}", refusal.message);
    };
    let with = |more: &str| FINE.replace("gatewayClassName", &format!("{more}, gatewayClassName"));
    refused(
        "{gatewayClassName: culvert-waypoint, listeners: [{name: a, port: 80, protocol: HTTP}]}",
        "ListenersNotValid",
        "spec.listeners",
    );
    refused(
        &with("addresses: [{value: 198.18.0.1}]"),
        "UnsupportedAddress",
        "spec.addresses",
    );
    refused(
        &with("infrastructure: {parametersRef: {group: a.example, kind: Shape, name: c}}"),
        "InvalidParameters",
        "spec.infrastructure.parametersRef",
    );
    refused(&with("infrastructure: {labels: [a]}"), "Invalid", "spec");
    let status = status(&with("addresses: [{value: 198.18.0.1}]"), &Progress::default());
    assert_eq!(
        (word(&status, "Accepted"), word(&status, "Programmed")),
        ("UnsupportedAddress".into(), "Invalid".into())
    );
    assert_eq!(status["addresses"], json!([]));
}

#[test]
fn a_listener_that_is_wrong_does_not_take_the_others_along() {
    let spec = FINE.replace("[{name", "[{name: web, port: 80, protocol: HTTP}, {name: other, port: 1, protocol: HBONE}, \
        {name: kinds, port: 15008, protocol: HBONE, allowedRoutes: {kinds: [{kind: HTTPRoute}, {kind: UDPRoute}]}}, {name");
    let serves = Progress {
        available: 1,
        ..Progress::default()
    };
    let status = status(&spec, &serves);
    assert_eq!(word(&status, "Accepted"), "True");
    let listeners = &status["listeners"];
    assert_eq!(
        (word(&listeners[0], "Accepted"), word(&listeners[0], "Programmed")),
        ("UnsupportedProtocol".into(), "Invalid".into())
    );
    assert_eq!(word(&listeners[1], "Accepted"), "PortUnavailable");
    assert_eq!(word(&listeners[2], "ResolvedRefs"), "InvalidRouteKinds");
    assert_eq!(
        listeners[2]["supportedKinds"],
        json!([{ "group": "gateway.networking.k8s.io", "kind": "HTTPRoute" }])
    );
    assert_eq!(word(&listeners[3], "Programmed"), "True");
}

#[test]
fn the_time_of_a_condition_changes_with_its_status_and_conditions_of_others_stay() {
    let before = json!({ "conditions": [{ "type": "theirs", "status": "True" }] });
    let asked = asked(FINE);
    let of = |before: &Value, available, second| {
        let progress = Progress {
            available,
            ..Progress::default()
        };
        of_gateway(&asked, &progress, "cluster.local", before, at(second))
    };
    let first = of(&before, 0, 10);
    assert_eq!(first["conditions"][0]["type"], "theirs");
    let again = of(&first, 0, 20);
    assert_eq!(first, again);
    let serves = of(&again, 1, 30);
    let since = |name: &str| {
        let conditions = serves["conditions"].as_array().unwrap();
        conditions.iter().find(|one| one["type"] == name).unwrap()["lastTransitionTime"].clone()
    };
    assert_eq!(
        (since("Accepted"), since("Programmed")),
        (json!("1970-01-01T00:00:10Z"), json!("1970-01-01T00:00:30Z"))
    );
}

#[test]
fn a_class_says_that_its_gateways_are_served() {
    assert_eq!(word(&of_class(1, &Value::Null, at(10)), "Accepted"), "True");
}

#[test]
fn what_a_pod_refuses_is_a_condition_as_long_as_it_does_and_of_a_listener_it_is_no_longer_programmed() {
    let progress = |refused: Option<bool>| Progress {
        available: 1,
        refused: refused.map(|is_listener| OfGateway {
            message: "a pod of the waypoint refuses it".to_owned(),
            is_listener,
        }),
        ..Progress::default()
    };
    let refused = status(FINE, &progress(Some(false)));
    assert_eq!(
        (word(&refused, "culvert.dev/InForce"), word(&refused, "Programmed")),
        ("RefusedByProxy".into(), "True".into())
    );
    let listener = status(FINE, &progress(Some(true)));
    assert_eq!(word(&listener, "Programmed"), "Invalid");
    let fine = of_gateway(&asked(FINE), &progress(None), "cluster.local", &refused, at(20));
    let conditions = fine["conditions"].as_array().unwrap();
    assert!(
        conditions.iter().all(|one| one["type"] != "culvert.dev/InForce"),
        "{fine:#}"
    );
}
