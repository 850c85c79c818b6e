//! Questions to a follower that follows given objects.

use std::sync::Arc;

use culvert_objects::Loaded;
use culvert_resources::files::{self, File};
use culvert_resources::keys::Fetched;
use culvert_telemetry::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;
use crate::follow::Follow;
use crate::monitor::ModelMetrics;
use crate::policy_test;

const WORLD: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {culvert.dev/use-waypoint: wp}}
spec: {clusterIP: 198.19.0.1, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: wp, namespace: shop}
spec: {gatewayClassName: culvert-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a, namespace: shop}
spec: {parentRefs: [{group: '', kind: Service, name: web}], rules: [{name: all, backendRefs: [{name: web, port: 80}]}]}
";

async fn ask(analyzes: bool, question: Value) -> (StatusCode, Value) {
    let read = files::read(&[File {
        name: "world.yaml".to_owned(),
        text: WORLD.to_owned(),
    }]);
    let loaded = Loaded {
        objects: World::of_files(&read).objects,
        generation: 1,
        ..Loaded::default()
    };
    let (_source, mut changes) = watch::channel(Arc::new(loaded));
    let mut follow = Follow::new(ModelMetrics::default(), Box::new(|_| {}));
    follow.begin(Model::default(), &mut changes);
    let (_trials, tried) = policy_test::trials();
    let (inquiries, asked) = inquiries();
    let request = Request::new(http::Method::POST, "/").with_body(question.to_string().into());
    let pages = Pages::new(inquiries);
    let answer = async {
        if analyzes {
            pages.analyze(request).await
        } else {
            pages.rules(request).await
        }
    };
    let (fetched, refusals) = (watch::channel(Fetched::default()).1, watch::channel(Arc::default()).1);
    let response: Response = tokio::select! {
        response = answer => response,
        () = follow.follow(changes, tried, asked, fetched, refusals) => unreachable!("it follows for ever"),
    };
    let body = serde_json::from_slice(response.body()).unwrap_or_default();
    (response.code(), body)
}

#[tokio::test]
async fn the_rules_of_a_service_name_their_objects_and_nobody_has_none() {
    let (code, said) = ask(false, json!({ "service": "shop/web" })).await;
    assert_eq!((code, &said["waypoint"]), (StatusCode::OK, &json!("shop/wp")));
    let rule = &said["ports"][0]["hosts"][0]["rules"][0];
    assert_eq!(
        (&rule["object"], &rule["rule"], &rule["backends"]),
        (
            &json!("HTTPRoute shop/a"),
            &json!("all"),
            &json!([{ "to": "shop/web:80", "weight": 1 }])
        )
    );
    assert_eq!(
        ask(false, json!({ "service": "shop/gone" })).await,
        (StatusCode::OK, Value::Null)
    );
    assert_eq!(ask(false, json!({ "service": "web" })).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(ask(false, json!({})).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_would_be_wrong_with_files_is_said_and_nothing_is_applied() {
    assert_eq!(ask(true, json!({})).await, (StatusCode::OK, json!([])));
    let text = WORLD.replace("backendRefs: [{name: web,", "backendRefs: [{name: nobody,");
    let (_, said) = ask(true, json!({ "files": [{ "name": "new.yaml", "text": text }] })).await;
    assert_eq!(said.as_array().map(Vec::len), Some(1), "{said}");
    assert_eq!(
        (&said[0]["severity"], &said[0]["object"], &said[0]["field"]),
        (
            &json!("error"),
            &json!("HTTPRoute shop/a"),
            &json!("spec.rules[0].backendRefs[0]")
        )
    );
}
