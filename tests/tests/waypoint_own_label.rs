//! A pod that asks for a waypoint by its own label: each kind of waypoint leads to it, its policies decide, and nobody goes around.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{net::SocketAddr, time::Duration};

use culvert_lab::{Pod, PodSpec, ServiceSpec, wait_until};
use culvert_tests::{
    PATIENCE, Town, echo, http, lab,
    town::PORT,
    waypoint::{Kind, Place, Waypoint},
};
use serde_json::json;

const WEB: u16 = PORT + 1;
const BYTES: u16 = PORT + 2;
/// No container says that it is there.
const UNSAID: u16 = PORT + 3;
const ATTEMPT: Duration = Duration::from_secs(5);

fn a_labelled_pod_is_reached_through_its_waypoint_alone(kind: Kind) {
    let lab = lab(&format!("wp_label_{}", kind.word()));
    let town = Town::meshed(&lab);
    lab.namespace("outside").unwrap();
    let stranger = lab.pod(PodSpec::new("outside", "stranger").on(1)).unwrap();
    let place = Place::of(&lab, "town", "wp", kind);
    let class = match kind {
        Kind::Culvert => "culvert-waypoint",
        Kind::Envoy | Kind::EnvoyWorld => "culvert-envoy",
    };
    lab.apply(&json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": { "name": "wp", "namespace": "town", "labels": { "istio.io/waypoint-for": "workload" } },
        "spec": { "gatewayClassName": class, "listeners": [{ "name": "mesh", "port": 15008, "protocol": "HBONE" }] },
    }))
    .unwrap();
    let ports = json!([{ "name": "http", "containerPort": WEB }, { "name": "tcp", "containerPort": BYTES }]);
    let own = PodSpec::new("town", "own")
        .on(2)
        .label("app", "own")
        .label("culvert.dev/use-waypoint", "wp")
        .containers(vec![
            json!({ "name": "app", "image": "culvert.dev/lab", "ports": ports }),
        ]);
    let own = lab.pod(own).unwrap();
    http::serve(&own, WEB, "own");
    echo::serve(&own, BYTES);
    echo::serve(&own, UNSAID);
    let past = ServiceSpec::new("town", "past")
        .port_object(json!({ "name": "http", "port": 80, "targetPort": WEB, "protocol": "TCP" }))
        .selector("app", "own");
    let past = lab.service(past).unwrap();
    let waypoint = Waypoint::start_at(place, &lab, &town.mesh, kind);
    let wait = |what: &str, condition: &mut dyn FnMut() -> bool| {
        wait_until(what, PATIENCE, condition)
            .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", waypoint.process.log_tail(60), lab.logs(30)));
    };
    let at = |port: u16| SocketAddr::from((own.ip4(), port));
    let get = |from: &Pod, to: SocketAddr, path: &str| {
        let answer = http::get(from, to, "own.town", path, ATTEMPT);
        answer.map_or((0, String::new()), |answer| (answer.status, answer.name))
    };
    let reaches = |from: &Pod, to: SocketAddr| echo::connect(from, to, ATTEMPT).is_ok();

    town.mesh.wait_enrolled(&[&own], true, PATIENCE).unwrap();
    // Without the waypoint's policy it could have been reached past it.
    lab.apply(&json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": "no-admin", "namespace": "town" },
        "spec": {
            "targetRefs": [{ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "wp" }],
            "action": "DENY",
            "rules": [{ "to": [{ "operation": { "paths": ["/admin*"], "ports": [WEB.to_string()] } }] }],
        },
    }))
    .unwrap();
    wait("the waypoint's policy to decide", &mut || {
        get(&town.client, at(WEB), "/admin/x").0 == 403
    });
    wait("the pod to be reached", &mut || {
        get(&town.client, at(WEB), "/") == (200, "own".to_owned())
    });
    wait("its bytes to be reached", &mut || reaches(&town.client, at(BYTES)));

    // Nobody else gets there: from outside the mesh, by a Service without a waypoint, or at a port of which nothing is said.
    wait("strangers to be refused", &mut || {
        [WEB, BYTES, UNSAID].iter().all(|port| !reaches(&stranger, at(*port)))
    });
    assert_eq!(get(&stranger, at(WEB), "/").0, 0);
    assert_eq!(get(&town.client, SocketAddr::from((past.ip4(), 80)), "/").0, 0);
    assert!(!reaches(&town.client, at(UNSAID)));
    assert_eq!(get(&town.client, at(WEB), "/"), (200, "own".to_owned()));
}

#[test]
fn culvert_leads_to_a_labelled_pod_and_nobody_goes_around_it() {
    a_labelled_pod_is_reached_through_its_waypoint_alone(Kind::Culvert);
}

#[test]
fn envoy_leads_to_a_labelled_pod_and_nobody_goes_around_it() {
    a_labelled_pod_is_reached_through_its_waypoint_alone(Kind::Envoy);
}
