//! Policies for waypoints: in force there, or denied.

use culvert_envoy::LISTENER_TYPE;
use culvert_envoy::pb::envoy::config::listener::v3::Listener;
use culvert_envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use culvert_envoy::unpack;
use culvert_proto::security::{Action, Rule, Scope};

use super::*;

const WAYPOINT: &str = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: wp, namespace: shop}\n\
    spec: {gatewayClassName: culvert-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}\n";

fn shop(labels: &str) -> String {
    SHOP.to_owned()
        + WAYPOINT
        + &format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop{labels}}}\n\
             spec: {{clusterIP: 198.19.0.1, selector: {{app: web}}, ports: [{{name: http, port: 80, targetPort: 8080}}, {{name: tcp, port: 90}}]}}\n"
        )
        + &pod("web", "198.18.0.1", "")
}

fn of(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    )
}

const BEHIND: &str = ", labels: {culvert.dev/use-waypoint: wp}";
const DENY: &str = "{targetRefs: [{group: '', kind: Service, name: web}], action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]}";
const TOKENS: &str =
    "{targetRefs: [{group: '', kind: Service, name: web}], jwtRules: [{issuer: a, jwksUri: 'https://a'}]}";

/// The names of the HTTP filters of the Service's port.
fn filters(model: &Model) -> Vec<String> {
    let Some(entry) = model.snapshot().get(LISTENER_TYPE, "shop/wp/inbound") else {
        return Vec::new();
    };
    let listener = <Listener as prost::Message>::decode(&*entry.body).unwrap();
    let chain = &listener.filter_chains[0];
    let Some(culvert_envoy::pb::envoy::config::listener::v3::filter::ConfigType::TypedConfig(config)) =
        &chain.filters[0].config_type
    else {
        panic!("{chain:?}")
    };
    let manager: HttpConnectionManager = unpack(config).unwrap();
    let names = manager.http_filters.iter();
    names
        .map(|filter| filter.name.rsplit('.').next().unwrap().to_owned())
        .collect()
}

fn denying(model: &Model) -> Vec<String> {
    let names = model.authorizations().into_keys();
    names.filter(|name| name.contains("not_enforced")).collect()
}

fn said(model: &Model) -> Vec<String> {
    model.findings().keys().map(|finding| finding.to_string()).collect()
}

#[test]
fn keys_that_are_fetched_reach_the_waypoint_and_until_then_no_token_of_the_issuer_counts() {
    let mut world = World::of(&(shop(BEHIND) + &of("RequestAuthentication", "tokens", TOKENS)));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    let source = Source::Uri("https://a".into());
    assert_eq!(model.sources().iter().collect::<Vec<_>>(), [&source]);
    let has = |model: &Model, text: &str| {
        let listener = model.snapshot().get(LISTENER_TYPE, "shop/wp/inbound").unwrap();
        listener
            .body
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    assert!(
        said(&model)
            .iter()
            .any(|text| text.contains("the keys of https://a are not fetched yet"))
    );
    assert!(has(&model, r#""kid":"none""#), "keys by which nobody signs");
    let mut fetched = Fetched::default();
    for keys in ["first", "second"] {
        let known = crate::keys::Known {
            keys: Some(keys.into()),
            problem: None,
        };
        fetched.set(source.clone(), known);
        model.set_fetched(fetched.clone());
        let changes = model.update(&world.objects(), Instant::now());
        assert!(has(&model, keys) && !changes.resources.is_empty());
    }
    assert!(
        !said(&model).iter().any(|text| text.contains("fetched")),
        "{:?}",
        said(&model)
    );
}

#[test]
fn a_policy_denies_until_its_service_is_behind_a_waypoint_and_is_enforced_there_in_the_same_step() {
    let policies = of("AuthorizationPolicy", "no-admin", DENY) + &of("RequestAuthentication", "tokens", TOKENS);
    let mut world = World::of(&(shop("") + &policies));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    let both = [
        "shop/culvert_not_enforced_AuthorizationPolicy_no-admin",
        "shop/culvert_not_enforced_RequestAuthentication_tokens",
    ];
    assert_eq!(denying(&model), both);
    assert!(
        said(&model)
            .iter()
            .any(|text| text.contains("behind no waypoint of Culvert")),
        "{:?}",
        said(&model)
    );
    world.apply(&shop(BEHIND));
    model.update(&world.objects(), Instant::now());
    assert_eq!(denying(&model), [""; 0]);
    assert_eq!(
        filters(&model),
        [
            "jwt_authn",
            "rbac",
            "fault",
            "cors",
            "external_auth",
            "stateful_session",
            "router"
        ]
    );
    let said = said(&model);
    assert!(
        said.iter().any(|text| text.contains("spec.jwtRules[0].jwksUri")),
        "{said:?}"
    );
    assert!(
        said.iter().any(|text| text.contains("port 90 of it is not HTTP")),
        "{said:?}"
    );
    world.apply(&shop(""));
    model.update(&world.objects(), Instant::now());
    assert_eq!(denying(&model), both);
}

#[test]
fn what_is_tried_out_or_audits_keeps_nobody_out_wherever_it_is_and_is_said_at_the_waypoint() {
    let tried = of("AuthorizationPolicy", "tried", DENY)
        .replace("metadata: {", "metadata: {annotations: {istio.io/dry-run: 'true'}, ");
    let audit = of("AuthorizationPolicy", "look", &DENY.replace("DENY", "AUDIT"));
    let mut world = World::of(&(shop("") + &tried + &audit));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    assert_eq!(denying(&model), [""; 0]);
    let about = said(&model);
    assert!(
        about
            .iter()
            .filter(|text| text.contains("it says nothing of what is behind it"))
            .count()
            == 2,
        "{about:?}"
    );
    world.apply(&shop(BEHIND));
    model.update(&world.objects(), Instant::now());
    assert_eq!(denying(&model), [""; 0]);
    assert_eq!(filters(&model).iter().filter(|name| *name == "rbac").count(), 2);
    assert!(said(&model).is_empty(), "{:?}", said(&model));
}

#[test]
fn a_policy_of_another_namespace_decides_nothing_at_a_waypoint() {
    let far = of(
        "AuthorizationPolicy",
        "far",
        "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: wp, namespace: other}], rules: [{}]}",
    ) + &of(
        "AuthorizationPolicy",
        "class",
        "{targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: culvert-waypoint}], rules: [{}]}",
    );
    let mut world = World::of(&(shop(BEHIND) + &far));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    assert_eq!(
        filters(&model),
        ["fault", "cors", "external_auth", "stateful_session", "router"]
    );
    let said = said(&model);
    assert!(
        said.iter().any(|text| text.contains("is in another namespace")),
        "{said:?}"
    );
    assert!(said.iter().any(|text| text.contains("is for a class")), "{said:?}");
}

#[test]
fn many_rules_are_the_same_bytes_every_time() {
    let rules: Vec<String> = (0..20)
        .map(|n| format!("{{to: [{{operation: {{paths: ['/{n}']}}}}]}}"))
        .collect();
    let spec = format!(
        "{{targetRefs: [{{group: '', kind: Service, name: web}}], rules: [{}]}}",
        rules.join(", ")
    );
    let mut world = World::of(&(shop(BEHIND) + &of("AuthorizationPolicy", "many", &spec)));
    let mut version = || {
        let mut model = Model::default();
        model.update(&world.objects(), Instant::now());
        model.snapshot().version(LISTENER_TYPE, "shop/wp/inbound")
    };
    let first = version();
    assert!(first.is_some());
    for _ in 0..10 {
        assert_eq!(version(), first);
    }
}

/// Istio's API server refuses both together; a file or an older CRD does not.
#[test]
fn a_policy_that_selects_pods_and_names_services_denies_its_namespace_and_the_others_go_on() {
    let both =
        "{selector: {matchLabels: {app: web}}, targetRefs: [{group: '', kind: Service, name: web}], rules: [{}]}";
    let other = of(
        "AuthorizationPolicy",
        "good",
        "{action: DENY, rules: [{from: [{source: {namespaces: [bad]}}]}]}",
    );
    for labels in ["", BEHIND] {
        let mut world = World::of(&(shop(labels) + &of("AuthorizationPolicy", "both", both) + &other));
        let mut model = Model::default();
        model.update(&world.objects(), Instant::now());
        assert_eq!(denying(&model), ["shop/culvert_not_enforced_AuthorizationPolicy_both"]);
        let policies = model.authorizations();
        let denies = &policies["shop/culvert_not_enforced_AuthorizationPolicy_both"];
        assert_eq!(
            (denies.scope(), denies.action(), denies.rules.as_slice()),
            (Scope::Namespace, Action::Deny, [Rule::default()].as_slice())
        );
        assert_eq!(policies["shop/good"].rules.len(), 1, "the other is as it was");
        let expected = "AuthorizationPolicy shop/both: spec.selector: it has targetRefs as well";
        assert!(
            said(&model).iter().any(|text| text.contains(expected)),
            "{:?}",
            said(&model)
        );
    }
    let tried = of("AuthorizationPolicy", "both", both)
        .replace("metadata: {", "metadata: {annotations: {istio.io/dry-run: 'true'}, ");
    let mut model = Model::default();
    model.update(&World::of(&(shop("") + &tried)).objects(), Instant::now());
    assert_eq!(denying(&model), [""; 0], "what is tried out keeps nobody out");
    assert!(said(&model).iter().any(|text| text.contains("it says nothing of any")));
}

#[test]
fn names_of_253_characters_are_those_of_policies_that_bind_and_longer_ones_are_refused() {
    let long = "n".repeat(253);
    let account = "a".repeat(253);
    let allow = format!(
        "{{selector: {{matchLabels: {{app: web}}}}, rules: [{{from: [{{source: {{serviceAccounts: [{account}]}}}}]}}]}}"
    );
    let target = "{targetRefs: [{group: '', kind: Service, name: web}], action: DENY, rules: [{}]}";
    let target_name = "t".repeat(253);
    let text = shop("") + &of("AuthorizationPolicy", &long, &allow) + &of("AuthorizationPolicy", &target_name, target);
    let mut model = Model::default();
    model.update(&World::of(&text).objects(), Instant::now());
    let instead = format!("shop/culvert_not_enforced_AuthorizationPolicy_{target_name}");
    let bound = workload(&model, "Kubernetes//Pod/shop/web").authorization_policies;
    assert_eq!(bound, [format!("shop/{long}"), instead.clone()]);
    let policies = model.authorizations();
    assert_eq!(policies[&instead].rules, [Rule::default()]);
    let accounts = &policies[&format!("shop/{long}")].rules[0].clauses[0].matches[0].service_accounts;
    assert_eq!(accounts[0].service_account, account);
    let finding = format!("AuthorizationPolicy shop/{target_name}: spec.targetRefs[0]: ");
    assert!(
        said(&model).iter().any(|text| text.contains(&finding)),
        "{:?}",
        said(&model)
    );
    let longer = culvert_objects::parse(&of("AuthorizationPolicy", &"n".repeat(254), &allow), false);
    assert_eq!(
        (longer.documents.len(), longer.faults.len()),
        (0, 1),
        "{:?}",
        longer.faults
    );
}
