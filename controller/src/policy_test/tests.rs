//! Questions to a follower that follows given objects.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use culvert_objects::{Assembly, Loaded};
use culvert_resources::keys::Fetched;
use culvert_telemetry::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;
use crate::follow::Follow;
use crate::model::Model;
use crate::monitor::ModelMetrics;

const WORLD: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {culvert.dev/mesh: ambient}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: cart, namespace: shop, labels: {app: cart}}
spec: {nodeName: n1, containers: [{name: a, image: b}]}
status: {phase: Running, podIP: 198.18.0.2, podIPs: [{ip: 198.18.0.2}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-strangers, namespace: shop}
spec: {action: DENY, rules: [{from: [{source: {namespaces: [strange]}}]}]}
";

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

/// Asks a follower of a world, and says how often it published changes meanwhile.
async fn ask(world: &str, question: Value) -> (StatusCode, String, usize) {
    let mut assembly = Assembly::default();
    for document in culvert_objects::parse(world, false).documents {
        assembly.apply(document.object);
    }
    let loaded = Loaded {
        objects: assembly.settle().0.clone(),
        generation: 1,
        ..Loaded::default()
    };
    let (_source, mut changes) = watch::channel(Arc::new(loaded));
    let published = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&published);
    let on_change = Box::new(move |_: &[culvert_xds::Change]| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let mut follow = Follow::new(ModelMetrics::default(), on_change);
    follow.begin(Model::default(), &mut changes);
    let before = published.load(Ordering::Relaxed);
    let snapshot = follow.state.borrow().snapshot.authorizations();
    let (trials, tried) = trials();
    let request = Request::new(http::Method::POST, "/policy-test").with_body(question.to_string().into());
    let (fetched, refusals) = (watch::channel(Fetched::default()).1, watch::channel(Arc::default()).1);
    let answer = tokio::select! {
        answer = answer(request, trials) => answer,
        () = follow.follow(changes, tried, crate::inquiry::inquiries().1, fetched, refusals) => panic!("it follows without end"),
    };
    assert_eq!(
        follow.state.borrow().snapshot.authorizations(),
        snapshot,
        "a trial changes nothing"
    );
    let body = String::from_utf8_lossy(answer.body()).into_owned();
    (answer.code(), body, published.load(Ordering::Relaxed) - before)
}

fn connection(identity: Option<&str>, port: u16) -> Value {
    json!({ "source": "198.18.0.1", "identity": identity, "destination": format!("198.18.0.2:{port}") })
}

async fn fates(file: &str, connections: &[Value]) -> Value {
    fates_in(WORLD, file, connections).await
}

async fn fates_in(world: &str, file: &str, connections: &[Value]) -> Value {
    let question = json!({ "files": [{ "name": "a.yaml", "text": file }], "connections": connections });
    let (code, body, published) = ask(world, question).await;
    assert_eq!((code, published), (StatusCode::OK, 0), "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn whom_an_allow_policy_would_refuse_is_told_with_the_policies_that_would_have_to_allow_it() {
    let file = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: only-web, namespace: shop}\n\
        spec: {selector: {matchLabels: {app: cart}}, rules: [{from: [{source: {serviceAccounts: [web]}}]}]}\n";
    let other = "spiffe://cluster.local/ns/shop/sa/other";
    let answer = fates(file, &[connection(Some(WEB), 80), connection(Some(other), 80)]).await;
    assert_eq!(answer["objects"], json!(["AuthorizationPolicy shop/only-web"]));
    let [web, other] = [0, 1].map(|n| &answer["connections"][n]);
    assert_eq!(web, &json!({ "now": { "allowed": true }, "then": { "allowed": true } }));
    assert_eq!(other["now"]["allowed"], true);
    assert_eq!(other["then"]["allowed"], false);
    assert_eq!(other["then"]["by"], json!(["AuthorizationPolicy shop/only-web"]));
}

#[tokio::test]
async fn which_rule_denies_is_told_by_its_place_in_the_object() {
    let file = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: deny, namespace: shop}\n\
        spec: {action: DENY, rules: [{to: [{operation: {ports: ['90']}}]}, {to: [{operation: {ports: ['80']}}]}]}\n";
    let answer = fates(file, &[connection(Some(WEB), 80), connection(Some(WEB), 81)]).await;
    let denied = &answer["connections"][0]["then"];
    assert_eq!(
        (&denied["by"], &denied["rule"]),
        (&json!(["AuthorizationPolicy shop/deny"]), &json!(1)),
        "{answer:#}"
    );
    assert_eq!(answer["connections"][1]["then"]["allowed"], true);
}

#[tokio::test]
async fn who_has_no_certificate_would_be_refused_by_strict_mode() {
    let file = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: shop}\n\
        spec: {mtls: {mode: STRICT}}\n";
    let answer = fates(file, &[connection(Some(WEB), 80), connection(None, 80)]).await;
    assert_eq!(answer["connections"][0]["then"]["allowed"], true);
    let refused = &answer["connections"][1]["then"];
    assert_eq!(refused["by"], json!(["PeerAuthentication of mode STRICT"]));
    assert_eq!(refused["why"], "the source has no certificate");
}

#[tokio::test]
async fn what_is_refused_already_and_who_nobody_knows_is_told_apart() {
    let file = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: shop}\n\
        spec: {mtls: {mode: PERMISSIVE}}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop}\n\
        spec: {ports: [{port: 80}]}\n";
    let strange = "spiffe://cluster.local/ns/strange/sa/a";
    let mut unknown = connection(None, 80);
    unknown["destination"] = "198.18.9.9:80".into();
    let answer = fates(file, &[connection(Some(strange), 80), unknown]).await;
    let refused = &answer["connections"][0]["now"];
    assert_eq!(
        (&refused["allowed"], &refused["rule"]),
        (&json!(false), &json!(0)),
        "{answer:#}"
    );
    assert_eq!(answer["connections"][1], json!({ "now": null, "then": null }));
    assert_eq!(answer["passed_over"], json!(["Service shop/a"]));
}

#[tokio::test]
async fn what_cannot_be_decided_at_layer_4_is_said_of_the_object_that_is_tried() {
    let file = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: paths, namespace: shop}\n\
        spec: {action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]}\n";
    let answer = fates(file, &[connection(Some(WEB), 80)]).await;
    assert_eq!(answer["connections"][0]["then"]["allowed"], false);
    assert!(
        answer["findings"][0]
            .as_str()
            .unwrap()
            .contains("spec.rules[0].to[0].operation.paths"),
        "{answer:#}"
    );
}

#[tokio::test]
async fn what_waypoints_decide_by_is_named_and_not_taken_for_something_that_refuses_nobody() {
    let files = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: wp, namespace: shop}
spec: {gatewayClassName: culvert-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: at-the-waypoint, namespace: shop}
spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: wp}], action: DENY, rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: of-nobody, namespace: shop}
spec: {targetRefs: [{kind: Service, group: '', name: cart}], action: DENY, rules: [{}]}
";
    let (world, policies) = files.split_at(files.find("---").unwrap());
    let answer = fates_in(&format!("{WORLD}---{world}"), policies, &[connection(Some(WEB), 80)]).await;
    // The other one is behind no waypoint: nodes deny what it binds, which is judged.
    assert_eq!(
        answer["for_waypoints"],
        json!(["AuthorizationPolicy shop/at-the-waypoint"]),
        "{answer:#}"
    );
    // And what is bound by labels is judged.
    let labels = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: shop}\n\
        spec: {selector: {matchLabels: {app: cart}}, action: DENY, rules: [{}]}\n";
    let answer = fates(labels, &[connection(Some(WEB), 80)]).await;
    assert_eq!(answer["for_waypoints"], json!([]));
}

#[tokio::test]
async fn what_is_wrong_with_the_question_or_its_files_is_named() {
    let (code, body, _) = ask(WORLD, json!({ "files": "none" })).await;
    assert_eq!(code, StatusCode::BAD_REQUEST, "{body}");
    for (text, expected) in [
        ("kind: [", "a.yaml:2: not valid YAML"),
        (
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n",
            "hold no object that has a say",
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: UPPER, namespace: a}\n",
            "UPPER",
        ),
    ] {
        let question = json!({ "files": [{ "name": "a.yaml", "text": text }], "connections": [] });
        let (code, body, _) = ask(WORLD, question).await;
        assert_eq!(code, StatusCode::BAD_REQUEST, "{text}");
        assert!(body.contains(expected), "{text}: {body}");
    }
}
