//! What is said in the status of routes, with a real API server and the Gateway API's own CRDs.
//!
//! Needs what `cluster` needs, and the CRDs: `cargo xtask crds`.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::authority::Lab;
use crate::process::{Controller, PATIENCE};

const KINDS: [&str; 5] = [
    "gatewayclasses",
    "gateways",
    "grpcroutes",
    "httproutes",
    "referencegrants",
];

const SHOP: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Namespace
metadata: {name: culvert-system}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {culvert.dev/use-waypoint: wp}}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: bare, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: calls, namespace: shop, labels: {culvert.dev/use-waypoint: wp}}
spec: {ports: [{name: grpc, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: wp, namespace: shop}
spec: {gatewayClassName: culvert-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
";

fn route(kind: &str, name: &str, services: &[&str], backend: &str) -> String {
    let parents: Vec<Value> = services
        .iter()
        .map(|service| json!({ "group": "", "kind": "Service", "name": service, "port": 80 }))
        .collect();
    let rules = json!([{ "backendRefs": [{ "name": backend, "port": 80 }] }]);
    json!({ "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
        "metadata": { "name": name, "namespace": "shop" }, "spec": { "parentRefs": parents, "rules": rules } })
    .to_string()
}

fn object(lab: &Lab, kind: &str, name: &str) -> Value {
    serde_json::from_str(&lab.run(&["get", kind, name, "-n", "shop", "-o", "json"])).unwrap()
}

/// An object once its status is so.
async fn until(lab: &Lab, kind: &str, name: &str, what: impl Fn(&Value) -> bool) -> Value {
    let begin = Instant::now();
    loop {
        let object = object(lab, kind, name);
        if what(&object["status"]) {
            return object;
        }
        assert!(begin.elapsed() < PATIENCE, "{kind} {name} stays {:#}", object["status"]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The status of a condition of ours at a parent, and the generation that it is about.
fn said<'a>(status: &'a Value, service: &str, condition: &str) -> Option<(&'a str, i64)> {
    let mut parents = status["parents"].as_array()?.iter();
    let ours = parents.find(|parent| {
        parent["controllerName"] == "culvert.dev/controller" && parent["parentRef"]["name"] == *service
    })?;
    let mut conditions = ours["conditions"].as_array()?.iter();
    let found = conditions.find(|one| one["type"] == *condition)?;
    Some((found["status"].as_str()?, found["observedGeneration"].as_i64()?))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "brings up a cluster: `cargo xtask test --cluster` runs it"]
async fn the_status_of_a_route_follows_it_parent_by_parent_beside_those_of_others_and_is_written_once() {
    let lab = Lab::up("statuses");
    let target = std::env::var_os("CARGO_TARGET_DIR").map(std::path::PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    for kind in KINDS {
        let file = target.join(format!(
            "crds/gateway-api/experimental/gateway.networking.k8s.io_{kind}.yaml"
        ));
        lab.run(&["apply", "--server-side", "-f", file.to_str().unwrap()]);
    }
    lab.run(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
    lab.apply(SHOP);
    lab.apply(&route("HTTPRoute", "a", &["web", "bare"], "web"));
    lab.apply(&route("GRPCRoute", "g", &["calls"], "nobody"));
    let mut controller = Controller::start_on(lab.kubeconfig(), &[]);

    let first = until(&lab, "httproute", "a", |status| {
        said(status, "web", "Accepted") == Some(("True", 1)) && said(status, "bare", "Accepted") == Some(("False", 1))
    })
    .await;
    assert_eq!(said(&first["status"], "web", "ResolvedRefs"), Some(("True", 1)));
    let message = first["status"].to_string();
    assert!(message.contains("Service shop/bare is behind no waypoint"), "{message}");
    until(&lab, "grpcroute", "g", |status| {
        said(status, "calls", "Accepted") == Some(("True", 1))
            && said(status, "calls", "ResolvedRefs") == Some(("False", 1))
    })
    .await;

    // Another controller says something, and a parent goes.
    let other = json!({ "parentRef": { "name": "edge" }, "controllerName": "example.com/edge", "conditions": [{
        "type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }] });
    let mut parents = first["status"]["parents"].as_array().unwrap().clone();
    parents.push(other.clone());
    let patch = json!({ "status": { "parents": parents } }).to_string();
    lab.run(&[
        "patch",
        "httproute",
        "a",
        "-n",
        "shop",
        "--subresource=status",
        "--type=merge",
        "-p",
        &patch,
    ]);
    lab.apply(&route("HTTPRoute", "a", &["web"], "web"));
    let second = until(&lab, "httproute", "a", |status| {
        said(status, "web", "Accepted") == Some(("True", 2)) && said(status, "bare", "Accepted").is_none()
    })
    .await;
    let mut parents = second["status"]["parents"].as_array().unwrap().iter();
    // The API server writes out what the reference leaves out.
    let is_others =
        |parent: &Value| parent["controllerName"] == "example.com/edge" && parent["conditions"] == other["conditions"];
    assert!(parents.any(is_others), "{second:#}");

    // A new leader looks at all of them, and writes what is not there yet, and nothing else.
    controller.terminate();
    controller.ended().await;
    lab.apply(&route("HTTPRoute", "b", &["web"], "web"));
    let _again = Controller::start_on(lab.kubeconfig(), &[]);
    until(&lab, "httproute", "b", |status| {
        said(status, "web", "Accepted").is_some()
    })
    .await;
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    assert_eq!(version(&object(&lab, "httproute", "a")), version(&second));
}
