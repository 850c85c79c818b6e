use super::*;

fn file(text: &str) -> Vec<File> {
    vec![File {
        name: "shop.yaml".to_owned(),
        text: text.to_owned(),
    }]
}

const WEB: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop, labels: {culvert.dev/use-waypoint: wp}}\n\
    spec: {clusterIP: 198.19.0.1, selector: {app: web}, ports: [{name: http, port: 80}]}\n---\n";
const WAYPOINT: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: wp, namespace: shop}\n\
    spec: {gatewayClassName: culvert-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}\n---\n";

fn route(name: &str, rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{parentRefs: [{{group: '', kind: Service, name: web}}], rules: {rules}}}\n---\n"
    )
}

/// Severity, object, field and message of everything that is wrong.
fn problems(text: &str) -> Vec<(Severity, String)> {
    let world = World::of_files(&read(&file(text)));
    let found = world.model(Settings::default()).analyze(&world.findings);
    let line = |problem: &crate::model::Problem| format!("{}: {}: {}", problem.object, problem.field, problem.message);
    assert!(found.iter().all(|problem| !problem.remedy.is_empty()), "{found:?}");
    found.iter().map(|problem| (problem.severity, line(problem))).collect()
}

fn has(found: &[(Severity, String)], severity: Severity, part: &str) {
    let is_there = found
        .iter()
        .any(|(level, text)| *level == severity && text.contains(part));
    assert!(is_there, "{part} in {found:#?}");
}

#[test]
fn files_that_are_right_have_nothing_wrong_although_they_name_no_namespace() {
    let good = WEB.to_owned() + WAYPOINT + &route("a", "[{backendRefs: [{name: web, port: 80}]}]");
    assert_eq!(problems(&good), []);
}

#[test]
fn a_rule_that_an_earlier_one_hides_is_named_with_that_one() {
    let rules = "[{matches: [{path: {value: /a}}], backendRefs: [{name: web, port: 80}]}, \
        {matches: [{path: {value: /a}}], backendRefs: [{name: web, port: 80, weight: 2}]}, \
        {matches: [{path: {value: /b}}], backendRefs: [{name: web, port: 80}]}]";
    let found = problems(&(WEB.to_owned() + WAYPOINT + &route("a", rules)));
    assert_eq!(found.len(), 1, "{found:#?}");
    has(
        &found,
        Severity::Warning,
        "HTTPRoute shop/a: spec.rules[1]: the rule never matches: HTTPRoute shop/a[0] comes first at shop/web:80",
    );
}

#[test]
fn a_subset_without_endpoints_and_policies_for_nothing_are_named() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, labels: {app: web, version: v1}}\n\
        spec: {nodeName: n1}\nstatus: {podIP: 198.18.0.1, conditions: [{type: Ready, status: 'True'}]}\n---\n";
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, namespace: shop}\n\
        spec: {host: web, subsets: [{name: one, labels: {version: v1}}, {name: two, labels: {version: v2}}]}\n---\n";
    let policy = "apiVersion: culvert.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: limits, namespace: shop}\n\
        spec: {targetRefs: [{group: '', kind: Service, name: gone}], rateLimit: {local: [{requests: 1, per: 1s}]}}\n---\n";
    let found = problems(&(WEB.to_owned() + WAYPOINT + pod + rule));
    assert!(
        !found.iter().any(|(_, text)| text.contains("subset \"one\"")),
        "{found:#?}"
    );
    has(
        &found,
        Severity::Warning,
        "DestinationRule shop/web: spec.subsets: no endpoint of the host has the labels of subset \"two\"",
    );
    // Nothing is running that could be told apart.
    assert_eq!(problems(&(WEB.to_owned() + WAYPOINT + rule)), []);
    let found = problems(&(WEB.to_owned() + WAYPOINT + policy));
    has(
        &found,
        Severity::Error,
        "TrafficPolicy shop/limits: spec.targetRefs[0]: there is no Service shop/gone",
    );
}

/// istio/istio#49638: host names that differ in the case of their letters alone.
#[test]
fn of_two_routes_whose_hosts_differ_in_case_alone_the_younger_is_named_and_the_rest_is_in_force() {
    let of = |name: &str, host: &str, created: &str| {
        route(name, "[{backendRefs: [{name: web, port: 80}]}]")
            .replace("rules:", &format!("hostnames: ['{host}'], rules:"))
            .replace(
                "namespace: shop}",
                &format!("namespace: shop, creationTimestamp: '{created}'}}"),
            )
    };
    let text = WEB.to_owned()
        + WAYPOINT
        + &of("young", "SHOP.example", "2026-01-02T00:00:00Z")
        + &of("old", "shop.example", "2026-01-01T00:00:00Z");
    let found = problems(&text);
    assert_eq!(found.len(), 1, "{found:#?}");
    has(
        &found,
        Severity::Warning,
        "HTTPRoute shop/young: spec.rules[0]: the rule never matches: HTTPRoute shop/old[0]",
    );
}

#[test]
fn references_that_lead_nowhere_are_errors_and_each_says_what_to_do() {
    let text = WEB.to_owned()
        + &route(
            "a",
            "[{backendRefs: [{name: nobody, port: 80}, {name: other, namespace: bank, port: 80}]}]",
        )
        + &route("b", "[{backendRefs: [{name: web, port: 80}]}]").replace("Service, name: web", "Service, name: gone");
    let found = problems(&text);
    has(
        &found,
        Severity::Error,
        "HTTPRoute shop/a: spec.rules[0].backendRefs[0]: there is no Service shop/nobody",
    );
    has(
        &found,
        Severity::Error,
        "no ReferenceGrant in bank lets HTTPRoute shop/a",
    );
    has(
        &found,
        Severity::Warning,
        "HTTPRoute shop/b: spec.parentRefs[0]: there is no Service shop/gone",
    );
    has(
        &found,
        Severity::Error,
        "Service shop/web: metadata.labels[culvert.dev/use-waypoint]: there is no waypoint shop/wp of Culvert",
    );
}

#[test]
fn what_binds_or_takes_nothing_is_a_warning() {
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: idle, namespace: shop}\n\
        spec: {selector: {matchLabels: {app: nobody}}, action: DENY, rules: [{}]}\n---\n";
    let other = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: other, namespace: shop}\n\
        spec: {address: 198.18.0.1, labels: {app: other}}\n---\n";
    let found = problems(&(policy.to_owned() + other + WAYPOINT));
    let idle = "AuthorizationPolicy shop/idle: spec.selector.matchLabels: no pod";
    has(&found, Severity::Warning, idle);
    // Where nothing is known of workloads, nothing is known of whom a selector is for.
    let alone = problems(policy);
    assert!(!alone.iter().any(|(_, text)| text.contains(idle)), "{alone:?}");
    let found = problems(&(policy.to_owned() + WAYPOINT));
    has(
        &found,
        Severity::Warning,
        "Gateway shop/wp: : no namespace, Service, ServiceEntry or pod asks",
    );
}

#[test]
fn of_two_virtual_services_for_a_host_the_one_that_does_not_count_is_named() {
    let of = |name: &str, namespace: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {{hosts: [web.shop.svc.cluster.local], http: [{{route: [{{destination: {{host: web.shop.svc.cluster.local}}}}]}}]}}\n---\n"
        )
    };
    let found = problems(&(WEB.to_owned() + WAYPOINT + &of("a", "shop") + &of("b", "shop") + &of("c", "bank")));
    has(
        &found,
        Severity::Warning,
        "VirtualService shop/b: spec.hosts[0]: web.shop.svc.cluster.local has VirtualService shop/a",
    );
    has(&found, Severity::Warning, "VirtualService bank/c: spec.hosts[0]");
}

#[test]
fn routes_of_two_kinds_on_one_service_are_said() {
    let grpc = route("g", "[{backendRefs: [{name: web, port: 80}]}]").replace("HTTPRoute", "GRPCRoute");
    let found = problems(
        &(WEB.to_owned()
            + WAYPOINT
            + &route(
                "h",
                "[{matches: [{path: {value: /x}}], backendRefs: [{name: web, port: 80}]}]",
            )
            + &grpc),
    );
    has(
        &found,
        Severity::Warning,
        "HTTPRoute shop/h: spec.parentRefs[0]: GRPCRoute shop/g is for the same port of Service shop/web",
    );
}

#[test]
fn files_over_a_cluster_take_the_place_of_what_is_there_and_of_what_was_said_of_it() {
    let bad = route("a", "[{backendRefs: [{name: nobody, port: 80}], newField: 1}]");
    let there = World::of_files(&read(&file(&(WEB.to_owned() + WAYPOINT + &bad))));
    let wrong = |world: &World| world.model(Settings::default()).analyze(&world.findings).len();
    assert!(wrong(&there) > 0);
    let mended = there.with(&read(&file(&route("a", "[{backendRefs: [{name: web, port: 80}]}]"))));
    assert_eq!(wrong(&mended), 0);
    let broken = mended.with(&read(&file("kind: [\n")));
    assert_eq!(wrong(&broken), 1, "a file that cannot be read is said");
}

/// Seen: a policy that denies, and below it one of the same name that allows: the first was lost without a word.
#[test]
fn of_two_objects_of_one_name_the_one_that_does_not_count_is_named() {
    let policy = |action: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\n\
             spec: {{action: {action}, rules: [{{}}]}}\n---\n"
        )
    };
    let found = problems(&(policy("DENY") + &policy("ALLOW")));
    assert_eq!(found.len(), 1, "{found:#?}");
    has(
        &found,
        Severity::Warning,
        "AuthorizationPolicy shop/p: metadata.name: written again in shop.yaml:5: that one counts, this one does not",
    );
}

#[test]
fn what_is_no_name_is_to_be_renamed_rather_than_removed() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: 'a b', namespace: shop}\nspec: {ports: [{port: 80}]}\n";
    let world = World::of_files(&read(&file(text)));
    let found = world.model(Settings::default()).analyze(&world.findings);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].remedy.contains("name that Kubernetes takes"), "{found:?}");
}
