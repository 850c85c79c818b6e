//! What proxies refuse, said of the objects that it was made of.

use culvert_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE, ROOTS_TYPE};

use super::*;
use crate::model::{IN_FORCE, REFUSED_BY_PROXY, Refusal, Refused};
use culvert_envoy::{CLUSTER_TYPE, LISTENER_TYPE, ROUTE_TYPE};

const WEB: &str = "shop/wp/shop/web.shop.svc.cluster.local:80";
const API: &str = "shop/wp/shop/api.shop.svc.cluster.local:80";

/// Two Services behind a waypoint, whose pod is there, and who says what of them.
fn world() -> String {
    let service = |name: &str, address: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop, labels: {{culvert.dev/use-waypoint: wp}}}}\n\
             spec: {{clusterIP: {address}, selector: {{app: {name}}}, ports: [{{name: http, port: 80}}, {{name: http-b, port: 81}}]}}\n"
        )
    };
    let route = |name: &str, parents: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{parentRefs: {parents}, rules: [{{matches: [{{path: {{value: /{name}}}}}], backendRefs: [{{name: web, port: 80}}]}}]}}\n"
        )
    };
    let of = |name: &str, port: u16| format!("{{group: '', kind: Service, name: {name}, port: {port}}}");
    "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: wp, namespace: shop}\n\
     spec: {gatewayClassName: culvert-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}\n"
        .to_owned()
        + &pod("wp-1", "198.18.0.9", "")
        + &service("web", "198.19.0.1")
        + &service("api", "198.19.0.2")
        + &route("one", &format!("[{}, {}]", of("web", 80), of("api", 80)))
        + &route("two", &format!("[{}]", of("web", 80)))
        + &route("other", &format!("[{}]", of("web", 81)))
        + "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: calm, namespace: shop}\n\
           spec: {host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}}}\n\
           ---\napiVersion: culvert.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: limits, namespace: shop}\n\
           spec: {targetRefs: [{group: '', kind: Service, name: web}], rateLimit: {local: [{requests: 9, per: 1s}]}}\n\
           ---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: all, namespace: shop}\n\
           spec: {targetRefs: [{group: '', kind: Service, name: web}], rules: [{}]}\n\
           ---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: some, namespace: shop}\n\
           spec: {selector: {matchLabels: {app: v}}, rules: [{}]}\n"
}

fn refusal(type_url: &str, name: Option<&str>, message: &str) -> Refusal {
    Refusal {
        waypoint: Some("shop/wp".to_owned()),
        proxy: "shop/wp-1".to_owned(),
        type_url: type_url.to_owned(),
        name: name.map(str::to_owned),
        message: message.to_owned(),
    }
}

fn of_node(type_url: &str, name: &str) -> Refusal {
    Refusal {
        waypoint: None,
        proxy: "n1".to_owned(),
        ..refusal(type_url, Some(name), "no")
    }
}

fn refused(model: &Model, refusals: impl IntoIterator<Item = Refusal>) -> Refused {
    model.refused(&refusals.into_iter().collect())
}

/// The objects of the findings.
fn told(refused: &Refused) -> Vec<String> {
    let objects = refused
        .findings
        .iter()
        .map(|finding| finding.object.clone().unwrap_or_default());
    objects.collect()
}

/// The parents of a route at which it says that it is refused.
fn conditions(model: &Model, refused: &Refused, name: &str) -> Vec<(String, Option<u16>)> {
    let routes = refused.within(model.routes(), model.routes());
    let status = routes.get(&(Kind::HTTPRoute, ObjectName::new("shop", name))).unwrap();
    let mut found = Vec::new();
    for parent in &status.parents {
        for condition in parent.conditions.iter().filter(|one| one.kind == IN_FORCE) {
            assert!(!condition.holds && condition.reason == REFUSED_BY_PROXY);
            assert!(
                condition.message.contains("the waypoint shop/wp refuses"),
                "{condition:?}"
            );
            found.push((parent.name.clone(), parent.port));
        }
    }
    found
}

#[test]
fn routes_that_are_refused_are_told_to_their_routes_at_that_port_and_to_the_waypoint() {
    let model = made(&world());
    let found = refused(&model, [refusal(ROUTE_TYPE, Some(WEB), "no such thing")]);
    assert_eq!(
        told(&found),
        [
            "Gateway shop/wp",
            "HTTPRoute shop/one",
            "HTTPRoute shop/two",
            "TrafficPolicy shop/limits"
        ]
    );
    assert_eq!(
        found.findings[1].message,
        format!(
            "the waypoint shop/wp refuses RouteConfiguration {WEB}: no such thing (what it had of it before stays in force)"
        )
    );
    let at = |name: &str| conditions(&model, &found, name);
    assert_eq!(at("one"), [("web".to_owned(), Some(80))]);
    assert_eq!(at("two"), [("web".to_owned(), Some(80))]);
    assert_eq!(at("other"), []);
    let gateway = &found.gateways[&ObjectName::new("shop", "wp")];
    assert!(
        !gateway.is_listener && gateway.message.contains("no such thing"),
        "{gateway:?}"
    );
    let other = refused(&model, [refusal(ROUTE_TYPE, Some(API), "no")]);
    assert_eq!(told(&other), ["Gateway shop/wp", "HTTPRoute shop/one"]);
    assert_eq!(conditions(&model, &other, "one"), [("api".to_owned(), Some(80))]);
}

#[test]
fn a_rule_that_is_named_keeps_its_object_from_being_one_of_many() {
    let model = made(&world());
    let message = "virtual host \"all\": route \"HTTPRoute shop/two[0]\": is not served";
    let found = refused(&model, [refusal(ROUTE_TYPE, Some(WEB), message)]);
    assert_eq!(told(&found), ["Gateway shop/wp", "HTTPRoute shop/two"]);
}

#[test]
fn how_endpoints_are_spoken_to_is_told_to_the_rules_that_say_it() {
    let model = made(&world());
    for name in [
        WEB.to_owned(),
        format!("{WEB}/v1"),
        format!("shop/wp/direct-clear own {}", &WEB[8..]),
    ] {
        let found = refused(&model, [refusal(CLUSTER_TYPE, Some(&name), "no")]);
        assert_eq!(
            told(&found),
            [
                "DestinationRule shop/calm",
                "Gateway shop/wp",
                "TrafficPolicy shop/limits"
            ],
            "{name}"
        );
    }
    let plumbing = refused(&model, [refusal(CLUSTER_TYPE, Some("shop/wp/originate"), "no")]);
    assert_eq!(told(&plumbing), ["Gateway shop/wp"]);
}

#[test]
fn a_listener_that_is_refused_is_told_to_what_decides_at_the_port_that_is_named() {
    let model = made(&world());
    let message = "filter chain `shop/web.shop.svc.cluster.local:80`: filter `rbac`: no";
    let found = refused(&model, [refusal(LISTENER_TYPE, Some("shop/wp/inbound"), message)]);
    assert_eq!(
        told(&found),
        [
            "AuthorizationPolicy shop/all",
            "Gateway shop/wp",
            "TrafficPolicy shop/limits"
        ]
    );
    assert!(found.gateways[&ObjectName::new("shop", "wp")].is_listener);
    let found = refused(&model, [refusal(LISTENER_TYPE, Some("shop/wp/inbound"), "no")]);
    assert_eq!(told(&found), ["Gateway shop/wp"], "it may be any");
}

#[test]
fn what_nodes_refuse_is_told_to_the_object_once_however_many_nodes_there_are() {
    let model = made(&world());
    let second = Refusal {
        proxy: "n2".to_owned(),
        ..of_node(AUTHORIZATION_TYPE, "shop/some")
    };
    let found = refused(&model, [second, of_node(AUTHORIZATION_TYPE, "shop/some")]);
    assert_eq!(told(&found), ["AuthorizationPolicy shop/some"]);
    let message = &found.findings[0].message;
    assert!(
        message.starts_with("the proxy of node n1 refuses Authorization shop/some: no"),
        "{message}"
    );
    let object = |type_url: &str, name: &str| told(&refused(&model, [of_node(type_url, name)]));
    assert_eq!(object(ADDRESS_TYPE, "Kubernetes//Pod/shop/wp-1"), ["Pod shop/wp-1"]);
    assert_eq!(
        object(ADDRESS_TYPE, "shop/web.shop.svc.cluster.local"),
        ["Service shop/web"]
    );
    let entry = "Kubernetes/networking.istio.io/ServiceEntry/shop/out/198.51.100.1";
    assert_eq!(object(ADDRESS_TYPE, entry), ["ServiceEntry shop/out"]);
    assert_eq!(object(ROOTS_TYPE, "roots"), [""]);
}

#[test]
fn nothing_is_said_of_what_is_gone_or_of_names_that_nobody_has() {
    let model = made(&world());
    let of = |waypoint: &str, proxy: &str, name: &str| Refusal {
        waypoint: Some(waypoint.to_owned()),
        proxy: proxy.to_owned(),
        ..refusal(ROUTE_TYPE, Some(name), "no")
    };
    assert!(
        refused(
            &model,
            [of("shop/wp", "shop/wp-2", WEB), of("shop/gone", "shop/wp-1", WEB)]
        )
        .is_empty()
    );
    for name in [
        "",
        "shop/wp",
        "shop/wp/",
        "shop/wp/:",
        "shop/wp/x:80",
        "shop/wpx/shop/web:80",
        "ä:ö",
    ] {
        assert_eq!(
            told(&refused(&model, [of("shop/wp", "shop/wp-1", name)])),
            ["Gateway shop/wp"],
            "{name}"
        );
    }
    let unnamed = refused(&model, [refusal(ROUTE_TYPE, None, "")]);
    let message = &unnamed.findings[0].message;
    assert!(
        message.contains("some RouteConfiguration and does not say which: it does not say why"),
        "{message}"
    );
}
