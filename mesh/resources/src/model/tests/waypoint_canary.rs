//! Two waypoints in front of one Service: what nodes' proxies and both waypoints are told.

use culvert_envoy::{CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE};
use culvert_proto::security::string_match::MatchType;
use culvert_proto::workload::{Service as Message, gateway_address::Destination};

use super::*;

fn gateway(name: &str, class: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{gatewayClassName: {class}, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}\n"
    )
}

fn web(labels: &str, annotations: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop, labels: {{{labels}}}, annotations: {{{annotations}}}}}\n\
         spec: {{clusterIP: 198.19.0.1, selector: {{app: web}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n"
    )
}

const BOTH: &str = "culvert.dev/use-waypoint: wp, culvert.dev/use-waypoint-canary: wp2";
const QUARTER: &str = "culvert.dev/use-waypoint-canary-weight: '25'";
const ROUTE: &str = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a, namespace: shop}\n\
    spec: {parentRefs: [{group: '', kind: Service, name: web}], rules: [{backendRefs: [{name: v1, port: 80}]}]}\n\
    ---\napiVersion: v1\nkind: Service\nmetadata: {name: v1, namespace: shop}\n\
    spec: {clusterIP: 198.19.0.2, selector: {app: v1}, ports: [{name: http, port: 80, targetPort: 8080}]}\n";
const POLICY: &str = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: shop}\n\
    spec: {targetRefs: [{group: '', kind: Service, name: web}], action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]}\n";

/// Both waypoints, and a pod behind them.
fn shop() -> String {
    SHOP.to_owned()
        + &gateway("wp", "culvert-waypoint")
        + &gateway("wp2", "culvert-envoy")
        + &pod("web", "198.18.0.1", "")
}

fn service(model: &Model, name: &str) -> Message {
    match model.addresses().remove(name).and_then(|address| address.r#type) {
        Some(address::Type::Service(service)) => service,
        other => panic!("{name}: {other:?}"),
    }
}

/// The waypoint, and all that share its connections.
fn told(model: &Model) -> (String, Vec<(String, u32)>) {
    told_of(&service(model, "shop/web.shop.svc.cluster.local"))
}

fn told_of(service: &Message) -> (String, Vec<(String, u32)>) {
    let host = |gateway: &culvert_proto::workload::GatewayAddress| match &gateway.destination {
        Some(Destination::Hostname(name)) => name.hostname.split('.').next().unwrap().to_owned(),
        other => panic!("{other:?}"),
    };
    let weighted = service.weighted_waypoints.iter();
    (
        service.waypoint.as_ref().map_or_else(String::new, host),
        weighted
            .map(|one| (host(one.destination.as_ref().unwrap()), one.weight))
            .collect(),
    )
}

fn shared(weight: u32) -> (String, Vec<(String, u32)>) {
    let each = vec![("wp".to_owned(), 100 - weight), ("wp2".to_owned(), weight)];
    ("wp".to_owned(), each)
}

fn alone() -> (String, Vec<(String, u32)>) {
    ("wp".to_owned(), Vec::new())
}

fn updated(world: &mut World, model: &mut Model, yaml: &str) {
    world.apply(yaml);
    model.update(&world.objects(), Instant::now());
}

/// What a waypoint is told beside Envoy's own plumbing, without its scope.
fn of_waypoint(model: &Model, name: &str, type_url: &'static str) -> Vec<String> {
    let scope = format!("shop/{name}");
    let names = model.snapshot().in_scope(type_url, &scope);
    let names = names.filter_map(|name| name.strip_prefix(&*scope)?.strip_prefix('/'));
    names
        .filter(|name| name.contains("svc.cluster.local"))
        .map(str::to_owned)
        .collect()
}

/// The policy of the pod, and whom it lets in.
fn lets_in(model: &Model) -> Vec<(String, Vec<String>)> {
    let names = workload(model, "Kubernetes//Pod/shop/web")
        .authorization_policies
        .into_iter();
    names
        .map(|name| {
            let policy = model
                .authorizations()
                .remove(&name)
                .unwrap_or_else(|| panic!("no {name}"));
            let clauses = policy.rules.into_iter().flat_map(|rule| rule.clauses);
            let principals = clauses
                .flat_map(|clause| clause.matches)
                .flat_map(|one| one.not_principals);
            let principals = principals.filter_map(|one| match one.match_type {
                Some(MatchType::Exact(principal)) => Some(principal),
                _ => None,
            });
            (name, principals.collect())
        })
        .collect()
}

#[test]
fn a_canary_is_told_all_that_the_waypoint_is_told_and_both_are_let_in_and_nobody_else() {
    let mut world = World::of(&(shop() + &web(BOTH, QUARTER) + ROUTE + POLICY));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    assert!(model.findings().is_empty(), "{:?}", model.findings());
    assert_eq!(told(&model), shared(25));
    for type_url in [ROUTE_TYPE, CLUSTER_TYPE, ENDPOINT_TYPE] {
        let primary = of_waypoint(&model, "wp", type_url);
        assert!(!primary.is_empty(), "{type_url}");
        assert_eq!(of_waypoint(&model, "wp2", type_url), primary, "{type_url}");
    }
    for name in ["wp", "wp2"] {
        let listener = model
            .snapshot()
            .get(LISTENER_TYPE, &format!("shop/{name}/inbound"))
            .unwrap();
        let body = String::from_utf8_lossy(&listener.body);
        assert!(body.contains("shop/web.shop.svc.cluster.local:80"), "{name}");
        assert!(body.contains("/admin"), "the policy of the Service binds at {name}");
    }
    let account = |name: &str| format!("cluster.local/ns/shop/sa/{name}");
    let both = vec![account("wp"), account("wp2")];
    let name = "shop/culvert_waypoint_shop_wp_shop_wp2_8080".to_owned();
    assert_eq!(lets_in(&model), [(name, both)], "one policy for both");
    let rules = model.rules(&ObjectName::new("shop", "web")).unwrap();
    let canary = rules.canary.unwrap();
    assert_eq!(
        (rules.waypoint.as_deref(), canary.waypoint.as_str(), canary.weight),
        (Some("shop/wp"), "shop/wp2", 25)
    );

    // All of it goes with the label.
    updated(&mut world, &mut model, &web("culvert.dev/use-waypoint: wp", ""));
    assert_eq!(told(&model), alone());
    assert_eq!(of_waypoint(&model, "wp2", CLUSTER_TYPE), Vec::<String>::new());
    assert!(!of_waypoint(&model, "wp", CLUSTER_TYPE).is_empty());
    let name = "shop/culvert_waypoint_shop_wp_8080".to_owned();
    assert_eq!(lets_in(&model), [(name, vec![account("wp")])]);
    assert_eq!(model.authorizations().len(), 1, "what nobody names is gone");
}

#[test]
fn a_canary_of_weight_0_is_ready_and_one_of_100_has_everything() {
    for weight in [0, 100] {
        let annotation = format!("istio.io/use-waypoint-canary-weight: '{weight}'");
        let labels = "istio.io/use-waypoint: wp, istio.io/use-waypoint-canary: wp2";
        let mut model = Model::default();
        model.update(
            &World::of(&(shop() + &web(labels, &annotation))).objects(),
            Instant::now(),
        );
        assert_eq!(told(&model), shared(weight));
        assert_eq!(
            of_waypoint(&model, "wp2", CLUSTER_TYPE),
            of_waypoint(&model, "wp", CLUSTER_TYPE)
        );
    }
    let mut model = Model::default();
    model.update(&World::of(&(shop() + &web(BOTH, ""))).objects(), Instant::now());
    assert_eq!(told(&model), shared(0), "without a weight it gets nothing");
}

#[test]
fn a_canary_that_cannot_be_one_gets_nothing_and_a_finding_says_why() {
    let foreign = gateway("wp2", "istio-waypoint");
    let elsewhere = BOTH.to_owned() + ", istio.io/use-waypoint-canary-namespace: infra";
    let named = |name: &str| BOTH.replace("wp2", name);
    let table = [
        (
            named("gone"),
            QUARTER,
            "",
            "there is no waypoint shop/gone of Culvert",
            alone(),
        ),
        (
            elsewhere,
            QUARTER,
            "",
            "there is no waypoint infra/wp2 of Culvert",
            alone(),
        ),
        (
            BOTH.to_owned(),
            QUARTER,
            &*foreign,
            "there is no waypoint shop/wp2 of Culvert",
            alone(),
        ),
        (named("wp"), QUARTER, "", "shop/wp is the waypoint itself", alone()),
        (
            BOTH.replace("use-waypoint: wp", "use-waypoint: gone"),
            QUARTER,
            "",
            "there is no waypoint shop/gone of Culvert",
            ("gone".to_owned(), Vec::new()),
        ),
        (
            "culvert.dev/use-waypoint-canary: wp2".to_owned(),
            QUARTER,
            "",
            "there is no waypoint beside it",
            (String::new(), Vec::new()),
        ),
        (
            "culvert.dev/use-waypoint: wp".to_owned(),
            QUARTER,
            "",
            "it is the weight of a canary, and no label names one",
            alone(),
        ),
        (
            BOTH.to_owned(),
            "culvert.dev/use-waypoint-canary-weight: half",
            "",
            "\"half\" is no whole number from 0 to 100",
            shared(0),
        ),
        (
            BOTH.to_owned(),
            "culvert.dev/use-waypoint-canary-weight: '101'",
            "",
            "\"101\" is no whole number from 0 to 100",
            shared(0),
        ),
    ];
    for (labels, annotations, more, why, expected) in table {
        let mut model = Model::default();
        let text = shop() + &web(&labels, annotations) + more + POLICY;
        model.update(&World::of(&text).objects(), Instant::now());
        assert_eq!(told(&model), expected, "{labels}");
        let mut findings = model.findings().keys();
        assert!(
            findings
                .any(|finding| finding.object.as_deref() == Some("Service shop/web") && finding.message.contains(why)),
            "{labels}: {:?}",
            model.findings()
        );
        let lets_in = lets_in(&model);
        let is_for_canary = lets_in.iter().any(|(name, _)| name.contains("_wp2_"));
        assert_eq!(is_for_canary, expected.1.len() == 2, "{lets_in:?}");
    }
}

#[test]
fn a_canary_comes_and_goes_with_its_gateway() {
    let without = SHOP.to_owned() + &gateway("wp", "culvert-waypoint") + &pod("web", "198.18.0.1", "") + POLICY;
    let mut world = World::of(&(without + &web(BOTH, QUARTER)));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    assert_eq!(told(&model), alone());
    updated(&mut world, &mut model, &gateway("wp2", "culvert-waypoint"));
    assert_eq!(told(&model), shared(25));
    assert!(lets_in(&model)[0].0.contains("_wp2_"));
    assert!(model.findings().is_empty(), "{:?}", model.findings());
    world.assembly.remove(Kind::Gateway, &ObjectName::new("shop", "wp2"));
    model.update(&world.objects(), Instant::now());
    assert_eq!(told(&model), alone());
    assert!(!lets_in(&model)[0].0.contains("_wp2_"));
    assert_eq!(model.findings().len(), 1);
}

#[test]
fn a_namespaces_canary_is_for_services_and_entries_that_say_nothing_themselves() {
    let labelled = |labels: &str| {
        let namespace = SHOP.replace(
            "labels: {culvert.dev/mesh: ambient}",
            &format!("labels: {{culvert.dev/mesh: ambient, {labels}}}, annotations: {{{QUARTER}}}"),
        );
        format!("---\n{namespace}")
    };
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: shop}\n\
        spec: {hosts: [api.example], addresses: [198.19.0.9], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}]}\n";
    let mut world = World::of(&(shop() + &web("", "") + entry + &labelled(BOTH)));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    assert_eq!(told(&model), shared(25));
    assert_eq!(told_of(&service(&model, "shop/api.example")), shared(25));
    // One of its own beside the namespace's waypoint, and none.
    let mine = "culvert.dev/use-waypoint-canary-weight: '50'";
    updated(
        &mut world,
        &mut model,
        &web("culvert.dev/use-waypoint-canary: wp2", mine),
    );
    assert_eq!(told(&model), shared(50));
    updated(
        &mut world,
        &mut model,
        &web("culvert.dev/use-waypoint-canary: none", ""),
    );
    assert_eq!(told(&model), alone());
    // The namespace's is none beside a waypoint of the Service's own.
    updated(&mut world, &mut model, &web("culvert.dev/use-waypoint: wp", ""));
    assert_eq!(told(&model), alone());
    assert!(model.findings().is_empty(), "{:?}", model.findings());
    let none = labelled(&BOTH.replace("wp2", "gone"));
    updated(&mut world, &mut model, &(web("", "") + &none));
    let found: Vec<String> = model.findings().keys().map(|finding| finding.message.clone()).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found
            .iter()
            .all(|why| why.starts_with("its namespace says so, and there is no waypoint shop/gone"))
    );
}
