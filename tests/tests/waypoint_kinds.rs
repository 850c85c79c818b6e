//! Routes of two kinds for one port of a Service: one kind is in force, as the Gateway API's GEP-1426 has it for meshes, and the other once
//! that is gone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::wait_until;
use culvert_tests::{PATIENCE, http, lab, scene::Scene, waypoint::Kind};
use serde_json::{Value, json};
use std::time::Duration;

fn route(kind: &str, rules: Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
        "metadata": { "name": "both", "namespace": "town" },
        "spec": { "parentRefs": [{ "group": "", "kind": "Service", "name": "web" }], "rules": rules },
    })
}

fn one_kind_is_in_force(kind: Kind) {
    let lab = lab(&format!("wp_kinds_{}", kind.word()));
    let scene = Scene::set(&lab, kind);
    // Which application answers, or else the status.
    let ask = |request: &str| {
        let lines = [request, "host: web", "content-length: 0", "connection: close"].map(str::to_owned);
        match http::ask(&scene.town.client, scene.web, &lines, Duration::from_secs(5)) {
            Ok((head, _)) => {
                let status = || head.status().unwrap_or(0).to_string();
                head.get("x-app").map_or_else(status, str::to_owned)
            }
            Err(error) => error.to_string(),
        }
    };
    let wait = |request: &str, expected: &str| {
        let mut last = String::new();
        let waited = wait_until(&format!("{request} to come to {expected}"), PATIENCE, || {
            last = ask(request);
            last == expected
        });
        waited.unwrap_or_else(|error| panic!("{}\n{error:#}: {last}", scene.last_words()));
    };
    let all = |backend: &str| json!([{ "backendRefs": [{ "name": backend, "port": 80 }] }]);
    lab.apply(&route("HTTPRoute", all("v1"))).unwrap();
    wait("GET /x HTTP/1.1", "v1");
    let calls = json!([{
        "matches": [{ "method": { "service": "shop.Books", "method": "Get" } }],
        "backendRefs": [{ "name": "v2", "port": 80 }],
    }]);
    lab.apply(&route("GRPCRoute", calls)).unwrap();
    wait("POST /shop.Books/Get HTTP/1.1", "v2");
    wait("GET /x HTTP/1.1", "404");
    let findings = || scene.town.mesh.get_controller("/findings").unwrap().body;
    assert!(
        findings().contains("GRPCRoute town/both is for the same port"),
        "{}",
        findings()
    );
    lab.delete("GRPCRoute", "town", "both").unwrap();
    wait("GET /x HTTP/1.1", "v1");
    wait("POST /shop.Books/Get HTTP/1.1", "v1");
    assert!(!findings().contains("is for the same port"), "{}", findings());
}

#[test]
fn culvert_has_one_kind_of_routes_in_force_and_the_other_once_that_is_gone() {
    one_kind_is_in_force(Kind::Culvert);
}

#[test]
fn envoy_has_one_kind_of_routes_in_force_and_the_other_once_that_is_gone() {
    one_kind_is_in_force(Kind::Envoy);
}
