//! Which TrafficPolicies hold, and what their status says.

mod times;

use super::waypoints::{get, shop};
use super::*;
use culvert_envoy::pb::envoy::config::cluster::v3::Cluster;
use culvert_envoy::pb::envoy::config::core::v3::HealthCheck;
use culvert_envoy::{CLUSTER_TYPE, CULVERT, LISTENER_TYPE, unpack};

fn policy(name: &str, created: u32, target: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: culvert.dev/v1alpha1\nkind: TrafficPolicy\n\
         metadata: {{name: {name}, namespace: shop, creationTimestamp: '2026-01-01T00:00:0{created}Z', generation: 3}}\n\
         spec: {{targetRefs: [{target}], {spec}}}\n"
    )
}

const WEB: &str = "{group: '', kind: Service, name: web}";
const LIMIT: &str = "rateLimit: {local: [{requests: 1, per: 1s}]}";
const ROUTE: &str = "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}";

fn route() -> String {
    "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\n\
     spec: {parentRefs: [{group: '', kind: Service, name: web}], rules: [{name: first, backendRefs: [{name: v1, port: 80}]}]}\n"
        .to_owned()
}

/// The reason of each target, and of `ResolvedRefs` where that is said.
fn reasons(model: &Model, name: &str) -> Vec<&'static str> {
    let status = model
        .route_status(Kind::TrafficPolicy, &ObjectName::new("shop", name))
        .unwrap();
    let conditions = status.parents.iter().flat_map(|parent| &parent.conditions);
    conditions.map(|condition| condition.reason).collect()
}

/// Whether the listener has a filter of a policy.
fn is_told(model: &Model, name: &str) -> bool {
    let listener = model.snapshot().get(LISTENER_TYPE, "shop/wp/inbound").unwrap();
    let text = format!("/shop/{name}");
    listener
        .body
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

fn of(text: &str) -> Model {
    let mut model = Model::default();
    model.update(&World::of(text).objects(), Instant::now());
    model
}

#[test]
fn of_two_policies_for_one_object_the_older_holds_and_the_other_takes_over_when_it_goes() {
    let text = shop() + &policy("younger", 2, WEB, LIMIT) + &policy("older", 1, WEB, LIMIT);
    let mut world = World::of(&text);
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    assert_eq!(
        (reasons(&model, "older"), reasons(&model, "younger")),
        (vec!["Accepted"], vec!["Conflicted"])
    );
    assert!(is_told(&model, "older") && !is_told(&model, "younger"));
    world
        .assembly
        .remove(Kind::TrafficPolicy, &ObjectName::new("shop", "older"));
    model.update(&world.objects(), Instant::now());
    assert_eq!(reasons(&model, "younger"), ["Accepted"]);
    assert!(is_told(&model, "younger"));
}

#[test]
fn a_policy_says_of_each_target_why_it_is_not_in_force_there() {
    let of_service = |name: &str| format!("{{group: '', kind: Service, name: {name}}}");
    let port = |name: &str| format!("{{group: '', kind: Service, name: web, sectionName: {name}}}");
    let rule = |name: &str| ROUTE.replace("name: r", &format!("name: r, sectionName: {name}"));
    let model = of(&(shop()
        + &route()
        + &policy("gone", 1, &of_service("nobody"), LIMIT)
        + &policy("outside", 1, &of_service("v1"), LIMIT)
        + &policy("port", 1, &port("http"), LIMIT)
        + &policy("noport", 1, &port("other"), LIMIT)
        + &policy("rule", 1, &rule("first"), LIMIT)
        + &policy("norule", 1, &rule("second"), LIMIT)
        + &policy("kind", 1, "{group: apps, kind: Deployment, name: web}", LIMIT)
        + &policy("bad", 1, WEB, "rateLimit: {local: [{requests: 0, per: 1s}]}")
        + &policy("health", 1, ROUTE, "healthCheck: {tcp: {}}")
        + &policy("several", 1, &format!("{WEB}, {}", of_service("nobody")), LIMIT)));
    for (name, expected) in [
        ("gone", vec!["TargetNotFound"]),
        ("outside", vec!["TargetNotFound"]),
        ("port", vec!["Accepted"]),
        ("noport", vec!["TargetNotFound"]),
        ("rule", vec!["Accepted"]),
        ("norule", vec!["TargetNotFound"]),
        ("kind", vec!["Invalid"]),
        ("bad", vec!["Invalid"]),
        ("health", vec!["Invalid"]),
        ("several", vec!["Accepted", "TargetNotFound"]),
    ] {
        assert_eq!(reasons(&model, name), expected, "{name}");
    }
    // What cannot be read stands in nobody's way.
    assert!(is_told(&model, "port") && !is_told(&model, "bad"));
    let fields: Vec<_> = model
        .findings()
        .keys()
        .filter_map(|finding| finding.field.as_deref())
        .collect();
    for field in [
        "spec.rateLimit.local[0].requests",
        "spec.healthCheck",
        "spec.targetRefs[1]",
    ] {
        assert!(fields.contains(&field), "{field}: {fields:?}");
    }
}

#[test]
fn a_provider_that_is_not_there_is_said_and_the_policy_is_in_force_and_refuses() {
    let global = "rateLimit: {global: {provider: p, domain: d, descriptors: [{entries: [{key: a, value: b}]}]}}";
    let model = of(&(shop() + &policy("asks", 1, WEB, global)));
    assert_eq!(reasons(&model, "asks"), ["Accepted", "ProviderNotFound"]);
    assert!(is_told(&model, "asks"));
}

#[test]
fn a_health_check_is_the_backends_and_changes_its_clusters_alone() {
    let check = "healthCheck: {http: {path: /healthz}}";
    let mut world = World::of(&shop());
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    let name = "shop/wp/shop/web.shop.svc.cluster.local:80";
    let cluster = |model: &Model| get::<Cluster>(model, CLUSTER_TYPE, name).unwrap();
    assert_eq!(cluster(&model).metadata, None);
    world.apply(&policy("looks", 1, WEB, check));
    model.update(&world.objects(), Instant::now());
    let checked = cluster(&model);
    // Where Envoy does not look: it could reach no endpoint behind the tunnel.
    assert!(checked.health_checks.is_empty());
    let metadata = checked.metadata.unwrap();
    let check: HealthCheck = unpack(&metadata.typed_filter_metadata[CULVERT]).unwrap();
    assert_eq!(check.interval.unwrap().seconds, 10);
}
