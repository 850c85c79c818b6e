//! Routes that ask a service whether a request may pass: who enforces them, and what holds where nobody does.

use culvert_envoy::pb::envoy::config::route::v3::RouteConfiguration;
use culvert_envoy::{CLUSTER_TYPE, ROUTE_TYPE};
use culvert_proto::AUTHORIZATION_TYPE;

use super::waypoints::{findings, get, shop};
use super::*;

const ROUTES: &str = "shop/wp/shop/web.shop.svc.cluster.local:80";
const DENIES: &str = "shop/culvert_not_enforced_HTTPRoute_asks";

fn asks(parent: &str, backend: &str, more: &str) -> String {
    let auth = format!("{{type: ExternalAuth, externalAuth: {{protocol: HTTP, backendRef: {{{backend}, port: 80}}}}}}");
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: asks, namespace: shop}}\n\
         spec: {{parentRefs: [{{group: '', kind: Service, name: {parent}}}], \
         rules: [{{filters: [{auth}], backendRefs: [{{name: v1, port: 80}}]}}]{more}}}\n"
    )
}

fn with(yaml: &str) -> Model {
    let mut model = Model::default();
    model.update(&World::of(&(shop() + yaml)).objects(), Instant::now());
    model
}

fn denies(model: &Model) -> bool {
    model.snapshot().get(AUTHORIZATION_TYPE, DENIES).is_some()
}

/// What the first route says to filters.
fn said(model: &Model) -> Vec<String> {
    let made: RouteConfiguration = get(model, ROUTE_TYPE, ROUTES).unwrap();
    let route = &made.virtual_hosts[0].routes[0];
    route.typed_per_filter_config.keys().cloned().collect()
}

#[test]
fn a_waypoint_asks_and_has_the_cluster_of_who_is_asked() {
    let model = with(&asks("web", "name: v2", ""));
    assert!(findings(&model).is_empty(), "{:?}", findings(&model));
    assert_eq!(said(&model), ["culvert.external_auth"]);
    assert!(!denies(&model));
    let cluster = "shop/wp/shop/v2.shop.svc.cluster.local:80";
    assert!(model.snapshot().get(CLUSTER_TYPE, cluster).is_some());
}

#[test]
fn who_cannot_be_asked_lets_nothing_pass() {
    let elsewhere = asks("web", "name: door, namespace: bank", "");
    for (yaml, finding) in [
        (asks("web", "name: nobody", ""), "there is no Service shop/nobody"),
        (elsewhere, "no ReferenceGrant in bank"),
    ] {
        let model = with(&yaml);
        assert!(said(&model).is_empty());
        let found = findings(&model).join("\n");
        assert!(found.contains(finding), "{found}");
    }
}

#[test]
fn where_no_waypoint_asks_nobody_passes_and_it_is_said() {
    // `v1` is behind no waypoint.
    let model = with(&asks("v1", "name: v2", ""));
    assert!(denies(&model));
    let found = findings(&model).join("\n");
    assert!(found.contains("nobody may reach it"), "{found}");
    // What cannot be read as a whole asks nobody.
    let model = with(&asks("web", "name: v2", ", newField: 1"));
    assert!(denies(&model));
}
