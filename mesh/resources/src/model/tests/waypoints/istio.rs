//! VirtualServices and DestinationRules.

use super::*;

const RULE_AND_SUBSETS: &str = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, namespace: shop}\n\
    spec: {host: web, subsets: [{name: here, labels: {app: web}}, {name: nowhere, labels: {app: other}}, \
    {name: tls, labels: {app: web}, trafficPolicy: {tls: {mode: MUTUAL}}}]}\n---\n\
    apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, namespace: shop}\n\
    spec:\n  hosts: [web]\n  http:\n  - match: [{uri: {prefix: /bad}}]\n    fault: {abort: {httpStatus: 99}}\n    \
    route: [{destination: {host: web}}]\n  - match: [{uri: {prefix: /labels}, sourceLabels: {app: x}}]\n    \
    directResponse: {status: 418}\n  - route: [{destination: {host: web, subset: here}}]\n";

#[test]
fn a_virtual_service_holds_in_its_order_with_500_for_what_is_bad_and_nothing_for_labels_of_clients() {
    let mut world = World::of(&(shop() + RULE_AND_SUBSETS));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    let routes = routes(&model, "web");
    assert_eq!(routes.len(), 2, "{routes:?}");
    assert!(matches!(&routes[0].action, Some(Action::DirectResponse(answer)) if answer.status == 500));
    let subset = "shop/wp/shop/web.shop.svc.cluster.local:80/here";
    let Some(Action::Route(action)) = &routes[1].action else {
        panic!("{routes:?}")
    };
    assert_eq!(
        action.cluster_specifier,
        Some(ClusterSpecifier::Cluster(subset.to_owned()))
    );
    let count = |name: &str| {
        let made: ClusterLoadAssignment = get(&model, ENDPOINT_TYPE, name).unwrap();
        made.endpoints
            .iter()
            .map(|group| group.lb_endpoints.len())
            .sum::<usize>()
    };
    assert_eq!(count(subset), 1);
    assert_eq!(count(&subset.replace("here", "nowhere")), 0);
    assert_eq!(
        count(&subset.replace("here", "tls")),
        0,
        "no traffic without the TLS that is asked for"
    );
    let said = findings(&model);
    assert!(
        said.iter()
            .any(|text| text.contains("spec.http[0].fault.abort.httpStatus")),
        "{said:?}"
    );
}

fn virtual_service(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )
}

#[test]
fn a_delegate_with_something_else_where_fields_should_be_is_named_and_what_leads_to_it_is_answered_500() {
    let root = "hosts: [web], http: [{match: [{uri: {prefix: /a}, headers: {h: {exact: v}}}], timeout: 3s, \
        delegate: {name: a, namespace: team}}, {route: [{destination: {host: web}}]}]";
    let route = "route: [{destination: {host: v1.shop.svc.cluster.local}}]";
    for leaf in [
        "http: [x]".to_owned(),
        "http: [null]".to_owned(),
        format!("http: [{{match: [x], {route}}}]"),
        format!("http: [{{match: [7, {{uri: {{prefix: /a}}}}], {route}}}]"),
        format!("http: [{{match: [{{headers: x}}], {route}}}]"),
        format!("http: [{{match: [{{headers: [x]}}], {route}}}]"),
    ] {
        let text = shop()
            + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n"
            + &virtual_service("shop", "root", root)
            + &virtual_service("team", "a", &leaf);
        let mut model = Model::default();
        model.update(&World::of(&text).objects(), Instant::now());
        let said = findings(&model).join("\n");
        assert!(said.contains("delegate[team/a].http[0]"), "{leaf}: {said}");
        let made = routes(&model, "web");
        let (last, led) = made.split_last().unwrap();
        assert!(matches!(last.action, Some(Action::Route(_))), "{leaf}: {made:?}");
        assert!(!led.is_empty(), "{leaf}: {made:?}");
        for route in led {
            let answer = match &route.action {
                Some(Action::DirectResponse(answer)) => answer.status,
                _ => 0,
            };
            assert_eq!(answer, 500, "{leaf}: {made:?}");
        }
    }
}

#[test]
fn a_rule_with_a_delegate_is_for_what_both_match_and_what_they_disagree_about_names_both() {
    let root = "hosts: [web], http: [{match: [{uri: {prefix: /a}}], timeout: 3s, delegate: {name: a, namespace: team}}, \
        {match: [{uri: {prefix: /none}}], delegate: {name: nobody}}, {route: [{destination: {host: web}}]}]";
    let leaf = "http: [{match: [{uri: {exact: /a/1}, headers: {x: {exact: y}}}], route: [{destination: {host: v1.shop.svc.cluster.local}}]}, \
        {match: [{uri: {prefix: /b}}], route: [{destination: {host: v1.shop.svc.cluster.local}}]}, \
        {timeout: 5s, route: [{destination: {host: v2.shop.svc.cluster.local}}]}]";
    let text = shop()
        + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n"
        + &virtual_service("shop", "root", root)
        + &virtual_service("team", "a", leaf)
        + &virtual_service("team", "idle", "http: [{route: [{destination: {host: web}}]}]");
    let mut world = World::of(&text);
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    let made = routes(&model, "web");
    let described: Vec<String> = made
        .iter()
        .map(|route| {
            let matched = route.r#match.as_ref().unwrap();
            let timeout = match &route.action {
                Some(Action::Route(action)) => action.timeout.map(|time| time.seconds),
                _ => None,
            };
            format!("{:?} {} {timeout:?}", matched.path_specifier, matched.headers.len())
        })
        .collect();
    assert_eq!(
        described,
        [
            "Some(Path(\"/a/1\")) 1 Some(3)",
            "Some(Prefix(\"/a\")) 0 Some(5)",
            "Some(Prefix(\"/none\")) 0 None",
            "Some(Prefix(\"/\")) 0 Some(0)",
        ]
    );
    assert_eq!(shares(&made[0]), [("v1".to_owned(), 1)]);
    // The waypoint is told of where the delegate leads.
    assert!(
        names(&model, CLUSTER_TYPE)
            .iter()
            .any(|name| name.contains("/v2.shop."))
    );
    let said = findings(&model).join("\n");
    for expected in [
        "delegate[team/a].http[1].match[0]: asks for another uri than spec.http[0].match[0] of VirtualService shop/root[0]",
        "there is no VirtualService shop/nobody that namespace shop sees",
        "VirtualService team/idle: spec.hosts",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    // A change of the delegate is one of the rules.
    world.apply(&virtual_service("team", "a", "http: []"));
    model.update(&world.objects(), Instant::now());
    assert_eq!(routes(&model, "web").len(), 2);
}
