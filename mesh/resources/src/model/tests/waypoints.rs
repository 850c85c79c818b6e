//! What waypoints are told.

use culvert_envoy::pb::envoy::config::cluster::v3::Cluster;
use culvert_envoy::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, lb_endpoint::HostIdentifier};
use culvert_envoy::pb::envoy::config::listener::v3::Listener;
use culvert_envoy::pb::envoy::config::route::v3::route::Action;
use culvert_envoy::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use culvert_envoy::pb::envoy::config::route::v3::{Route, RouteConfiguration};
use culvert_envoy::{CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE};

use super::*;

mod any_rule;
mod istio;
mod purpose;

const WAYPOINT: &str = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: wp, namespace: shop}\n\
    spec: {gatewayClassName: culvert-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}\n";

fn service(name: &str, address: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop{more}}}\n\
         spec: {{clusterIP: {address}, selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n"
    )
}

const BEHIND: &str = ", labels: {culvert.dev/use-waypoint: wp}";

fn route(name: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{parentRefs: [{{group: '', kind: Service, name: web}}], rules: {rules}}}\n"
    )
}

/// A shop whose Service `web` is behind a waypoint, with two others that are not.
pub(super) fn shop() -> String {
    SHOP.to_owned()
        + WAYPOINT
        + &service("web", "198.19.0.1", BEHIND)
        + &service("v1", "198.19.0.2", "")
        + &service("v2", "198.19.0.3", "")
        + &pod("web", "198.18.0.1", "")
        + &pod("v1", "198.18.0.2", "")
        + &pod("v2", "198.18.0.3", "")
}

pub(super) fn get<M: prost::Message + Default>(model: &Model, type_url: &str, name: &str) -> Option<M> {
    let entry = model.snapshot().get(type_url, name)?;
    Some(M::decode(&*entry.body).unwrap())
}

fn names(model: &Model, type_url: &str) -> Vec<String> {
    model
        .snapshot()
        .in_scope(type_url, "shop/wp")
        .map(|name| name.to_string())
        .collect()
}

fn routes(model: &Model, service: &str) -> Vec<Route> {
    let name = format!("shop/wp/shop/{service}.shop.svc.cluster.local:80");
    let mut made: RouteConfiguration = get(model, ROUTE_TYPE, &name).unwrap();
    assert_eq!(made.name, name);
    let host = made.virtual_hosts.pop().unwrap();
    assert_eq!(host.domains, ["*"]);
    host.routes
}

/// Shares of backends, by the names of their Services.
fn shares(route: &Route) -> Vec<(String, u32)> {
    let Some(Action::Route(action)) = &route.action else {
        panic!("{route:?}")
    };
    let short = |name: &str| {
        let name = name.strip_prefix("shop/wp/").unwrap();
        name.split('/')
            .nth(1)
            .and_then(|host| host.split('.').next())
            .unwrap_or(name)
            .to_owned()
    };
    match action.cluster_specifier.as_ref().unwrap() {
        ClusterSpecifier::Cluster(name) => vec![(short(name), 1)],
        ClusterSpecifier::WeightedClusters(all) => all
            .clusters
            .iter()
            .map(|one| (short(&one.name), one.weight.unwrap().value))
            .collect(),
        other => panic!("{other:?}"),
    }
}

const NINETY: &str = "[{backendRefs: [{name: v1, port: 80, weight: 90}, {name: v2, port: 80, weight: 10}]}]";

#[test]
fn a_route_with_weights_becomes_everything_that_a_waypoint_needs() {
    let mut world = World::of(&(shop() + &route("split", NINETY)));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    assert!(model.findings().is_empty(), "{:?}", model.findings());
    let routes = routes(&model, "web");
    let expected = [("v1".to_owned(), 90), ("v2".to_owned(), 10)];
    assert_eq!(routes.iter().map(shares).collect::<Vec<_>>(), [expected]);
    assert_eq!(
        names(&model, LISTENER_TYPE),
        ["shop/wp/connect", "shop/wp/inbound", "shop/wp/tunnel"]
    );
    let inbound: Listener = get(&model, LISTENER_TYPE, "shop/wp/inbound").unwrap();
    let chains: Vec<&str> = inbound.filter_chains.iter().map(|chain| chain.name.as_str()).collect();
    assert_eq!(chains, ["shop/web.shop.svc.cluster.local:80"]);
    let matched = inbound.filter_chains[0].filter_chain_match.as_ref().unwrap();
    assert_eq!(matched.prefix_ranges[0].address_prefix, "198.19.0.1");
    let backends = ["v1", "v2", "web"].map(|name| format!("shop/wp/shop/{name}.shop.svc.cluster.local:80"));
    assert_eq!(names(&model, ENDPOINT_TYPE), backends);
    for name in &backends {
        assert_eq!(get::<Cluster>(&model, CLUSTER_TYPE, name).unwrap().name, *name);
    }
    let v1: ClusterLoadAssignment = get(&model, ENDPOINT_TYPE, &backends[0]).unwrap();
    let endpoint = &v1.endpoints[0].lb_endpoints[0];
    let about = &endpoint.metadata.as_ref().unwrap().filter_metadata[culvert_envoy::CULVERT];
    let about = culvert_envoy::endpoint::About::of(about);
    assert_eq!(about.identity, "spiffe://cluster.local/ns/shop/sa/default");
    assert_eq!(about.uid, "Kubernetes//Pod/shop/v1");
    let Some(HostIdentifier::Endpoint(place)) = &endpoint.host_identifier else {
        panic!("{endpoint:?}")
    };
    assert!(format!("{:?}", place.address).contains("198.18.0.2:8080"), "{place:?}");
}

/// The names of resources that an update changed, beside Workloads and Services.
fn pushed(model: &mut Model, world: &mut World) -> Vec<String> {
    let changes = model.update(&world.objects(), Instant::now()).resources.into_iter();
    let for_waypoints = changes.filter(|change| change.type_url.contains("envoy"));
    let mut names: Vec<String> = for_waypoints
        .map(|change| {
            format!(
                "{} {}",
                change.type_url.rsplit('.').next().unwrap_or_default(),
                change.name
            )
        })
        .collect();
    names.sort();
    names
}

#[test]
fn a_change_of_one_endpoint_is_one_assignment_and_of_one_route_one_configuration() {
    let mut world = World::of(&(shop() + &route("split", NINETY)));
    let mut model = Model::default();
    assert!(pushed(&mut model, &mut world).len() > 10);
    world.apply(&pod("v1", "198.18.0.99", ""));
    assert_eq!(
        pushed(&mut model, &mut world),
        ["ClusterLoadAssignment shop/wp/shop/v1.shop.svc.cluster.local:80"]
    );
    world.apply(&route("split", &NINETY.replace("90", "80")));
    assert_eq!(
        pushed(&mut model, &mut world),
        ["RouteConfiguration shop/wp/shop/web.shop.svc.cluster.local:80"]
    );
    assert_eq!(pushed(&mut model, &mut world), [""; 0], "nothing changed");
}

/// Envoy chooses a chain, and with it the policies, by address; `culvert-waypoint` finds out by itself.
#[test]
fn envoy_alone_is_told_of_endpoints_by_their_own_addresses() {
    let of_envoy = shop().replace("gatewayClassName: culvert-waypoint", "gatewayClassName: culvert-envoy");
    let mut world = World::of(&of_envoy);
    world.apply(&service("other", "198.19.0.4", BEHIND));
    world.apply(&pod("other", "198.18.0.4", ""));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    assert!(model.findings().is_empty(), "{:?}", model.findings());
    let addresses = |model: &Model| -> Vec<Vec<String>> {
        let inbound: Listener = get(model, LISTENER_TYPE, "shop/wp/inbound").unwrap();
        let chains = inbound.filter_chains.into_iter();
        let direct = chains.filter(|chain| chain.name.ends_with(":80 at 8080"));
        let matched = direct.filter_map(|chain| chain.filter_chain_match);
        let ranges = matched.map(|matched| matched.prefix_ranges.into_iter().map(|range| range.address_prefix));
        ranges.map(Iterator::collect).collect()
    };
    // Where the same holds, one chain is for all.
    assert_eq!(
        addresses(&model),
        [["198.18.0.1", "198.18.0.4"].map(str::to_owned).to_vec()]
    );
    world.apply(&pod("other", "198.18.0.5", ""));
    assert_eq!(
        pushed(&mut model, &mut world),
        [
            "ClusterLoadAssignment shop/wp/shop/other.shop.svc.cluster.local:80",
            "Listener shop/wp/inbound"
        ]
    );
    // A policy of one Service makes two.
    let policy = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n\
        spec: {action: DENY, targetRefs: [{group: '', kind: Service, name: web}], rules: [{to: [{operation: {paths: [/a]}}]}]}\n";
    world.apply(policy);
    model.update(&world.objects(), Instant::now());
    assert_eq!(
        addresses(&model),
        [["198.18.0.5".to_owned()], ["198.18.0.1".to_owned()]]
    );

    let mut ours = Model::default();
    ours.update(&World::of(&shop()).objects(), Instant::now());
    let inbound: Listener = get(&ours, LISTENER_TYPE, "shop/wp/inbound").unwrap();
    assert_eq!(inbound.filter_chains.len(), 1);
}

/// Envoy does not ask for the endpoints of a cluster that it has again, and waits for them.
#[test]
fn a_cluster_that_changes_brings_its_endpoints_along() {
    let mut world = World::of(&shop());
    let mut model = Model::default();
    pushed(&mut model, &mut world);
    world.apply(&service("web", "198.19.0.1", BEHIND).replace("name: http,", "name: http2,"));
    let name = "shop/wp/shop/web.shop.svc.cluster.local:80";
    assert_eq!(
        pushed(&mut model, &mut world),
        [format!("Cluster {name}"), format!("ClusterLoadAssignment {name}")]
    );
}

#[test]
fn a_service_without_a_route_has_one_to_itself_and_one_that_leaves_its_waypoint_has_nothing() {
    let mut world = World::of(&shop());
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    assert_eq!(shares(&routes(&model, "web")[0]), [("web".to_owned(), 1)]);
    world.apply(&service("web", "198.19.0.1", ""));
    model.update(&world.objects(), Instant::now());
    assert_eq!(names(&model, LISTENER_TYPE), ["shop/wp/connect", "shop/wp/tunnel"]);
    assert_eq!(names(&model, ROUTE_TYPE), [""; 0]);
    assert_eq!(names(&model, ENDPOINT_TYPE), [""; 0]);
}

#[test]
fn a_gateway_of_a_foreign_class_and_one_that_admits_nobody_have_nothing() {
    let foreign = shop().replace("gatewayClassName: culvert-waypoint", "gatewayClassName: nginx");
    let mut model = Model::default();
    model.update(&World::of(&foreign).objects(), Instant::now());
    assert_eq!(names(&model, LISTENER_TYPE), [""; 0]);
    assert_eq!(names(&model, CLUSTER_TYPE), [""; 0]);
    assert!(findings(&model).join("").contains("\"nginx\" is no class of Culvert's"));
    // By an object, the class is ours.
    let class = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: nginx}\n\
        spec: {controllerName: culvert.dev/controller}\n";
    model.update(&World::of(&(foreign + class)).objects(), Instant::now());
    assert_eq!(names(&model, LISTENER_TYPE).len(), 3);
    let closed = shop().replace(
        "port: 15008,",
        "port: 15008, allowedRoutes: {namespaces: {from: None}},",
    );
    model.update(&World::of(&closed).objects(), Instant::now());
    assert_eq!(names(&model, ROUTE_TYPE), [""; 0]);
}

/// The statuses of the only parent's conditions: type, whether it holds, reason.
pub(super) fn conditions(
    model: &Model,
    kind: Kind,
    namespace: &str,
    name: &str,
) -> Vec<(&'static str, bool, &'static str)> {
    let status = model.routes().get(&(kind, ObjectName::new(namespace, name))).unwrap();
    let [parent] = status.parents.as_slice() else {
        panic!("{status:?}")
    };
    parent
        .conditions
        .iter()
        .map(|condition| (condition.kind, condition.holds, condition.reason))
        .collect()
}

pub(super) fn findings(model: &Model) -> Vec<String> {
    model.findings().keys().map(|finding| finding.to_string()).collect()
}

#[test]
fn a_rule_that_makes_no_sense_answers_500_and_is_named_and_the_others_hold() {
    let rules = "[{matches: [{path: {value: /bad}}], filters: [{type: URLRewrite, urlRewrite: {hostname: 'a b'}}], \
        backendRefs: [{name: v1, port: 80}]}, \
        {matches: [{path: {value: /regex, type: RegularExpression}, headers: [{name: x, type: RegularExpression, value: '('}]}], \
        backendRefs: [{name: v1, port: 80}]}, \
        {matches: [{path: {value: /auth}}], filters: [{type: ExternalAuth, externalAuth: {}}], backendRefs: [{name: v1, port: 80}]}, \
        {matches: [{path: {value: /new}}], newField: 1, backendRefs: [{name: v1, port: 80}]}, \
        {matches: [{path: {value: /good}}], backendRefs: [{name: v1, port: 80}]}]";
    let mut model = Model::default();
    model.update(&World::of(&(shop() + &route("mixed", rules))).objects(), Instant::now());
    let made = routes(&model, "web");
    let fails = |route: &Route| matches!(&route.action, Some(Action::DirectResponse(direct)) if direct.status == 500);
    let names: Vec<(&str, bool)> = made.iter().map(|route| (route.name.as_str(), fails(route))).collect();
    let expected = [(4, false), (0, true), (2, true), (3, true), (1, true)];
    let expected: Vec<(String, bool)> = expected
        .iter()
        .map(|(index, fails)| (format!("HTTPRoute shop/mixed[{index}]"), *fails))
        .collect();
    let mut sorted: Vec<(String, bool)> = names.iter().map(|(name, fails)| ((*name).to_owned(), *fails)).collect();
    let mut wanted = expected;
    sorted.sort();
    wanted.sort();
    assert_eq!(sorted, wanted);
    let findings = findings(&model).join("\n");
    for field in [
        "spec.rules[0].filters[0].urlRewrite.hostname: \"a b\" is no host name",
        "spec.rules[1].matches[0].headers[0].value: \"(\" is no regular expression",
        "spec.rules[2].filters[0].externalAuth: missing field `protocol`",
        "spec.rules[3].newField",
    ] {
        assert!(findings.contains(field), "{field} in {findings}");
    }
    assert_eq!(
        conditions(&model, Kind::HTTPRoute, "shop", "mixed"),
        [
            ("Accepted", true, "Accepted"),
            ("ResolvedRefs", true, "ResolvedRefs"),
            ("PartiallyInvalid", true, "UnsupportedValue")
        ]
    );
}

#[test]
fn backends_that_are_not_there_keep_their_share_and_all_of_them_are_named() {
    let rules = "[{backendRefs: [{name: nobody, port: 80, weight: 1}, {name: v1, port: 81, weight: 2}, \
        {name: v1, port: 80, weight: 3}, {name: x, kind: Bucket, group: example.com, weight: 4}]}]";
    let mut model = Model::default();
    model.update(
        &World::of(&(shop() + &route("missing", rules))).objects(),
        Instant::now(),
    );
    let shares = shares(&routes(&model, "web")[0]);
    let of = |name: &str, share| (name.to_owned(), share);
    assert_eq!(
        shares,
        [
            of("no-backend", 1),
            of("no-backend", 2),
            of("v1", 3),
            of("no-backend", 4)
        ]
    );
    let reference = (Kind::HTTPRoute, ObjectName::new("shop", "missing"));
    let status = model.routes().get(&reference).unwrap();
    let resolved = &status.parents[0].conditions[1];
    assert_eq!((resolved.holds, resolved.reason), (false, "BackendNotFound"));
    for part in [
        "Service shop/nobody",
        "Service shop/v1 has no port 81",
        "Bucket of group",
    ] {
        assert!(resolved.message.contains(part), "{}", resolved.message);
    }
}

#[test]
fn a_route_is_not_accepted_where_no_waypoint_enforces_it_and_by_no_port_that_it_means() {
    let mut world = World::of(&(shop() + &route("r", NINETY)));
    let mut model = Model::default();
    let mut look = |world: &mut World| {
        model.update(&world.objects(), Instant::now());
        let found = conditions(&model, Kind::HTTPRoute, "shop", "r")[0];
        (found.1, found.2, findings(&model).join("\n"))
    };
    assert_eq!(look(&mut world), (true, "Accepted", String::new()));
    world.apply(&route("r", NINETY).replace("name: web", "name: web, port: 81"));
    let (accepted, _, said) = look(&mut world);
    assert!(
        !accepted && said.contains("spec.parentRefs[0]: Service shop/web has no such port"),
        "{said}"
    );
    world.apply(&route("r", NINETY).replace("name: web", "name: v1"));
    let (accepted, _, said) = look(&mut world);
    assert!(
        !accepted && said.contains("Service shop/v1 is behind no waypoint"),
        "{said}"
    );
    world.apply(&route("r", NINETY).replace("group: '', kind: Service, name: web", "name: edge"));
    model.update(&world.objects(), Instant::now());
    assert!(
        findings(&model)
            .join("\n")
            .contains("a parent of kind Gateway is left to others")
    );
}

#[test]
fn tcp_ports_split_connections_and_ports_without_a_known_protocol_have_two_chains() {
    let tcp = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {name: split, namespace: shop}\n\
        spec: {parentRefs: [{group: '', kind: Service, name: web, port: 90}], rules: [{backendRefs: \
        [{name: v1, port: 80, weight: 9}, {name: nobody, port: 1, weight: 1}]}]}\n";
    let ports = "ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 90}, {name: other, port: 100}]";
    let shop = shop().replacen("ports: [{name: http, port: 80, targetPort: 8080}]", ports, 1);
    let mut model = Model::default();
    model.update(&World::of(&(shop + tcp)).objects(), Instant::now());
    let inbound: Listener = get(&model, LISTENER_TYPE, "shop/wp/inbound").unwrap();
    let web = "shop/web.shop.svc.cluster.local";
    let chains: Vec<String> = inbound
        .filter_chains
        .iter()
        .map(|chain| {
            let protocols = &chain.filter_chain_match.as_ref().unwrap().application_protocols;
            format!("{} {}", chain.name.trim_start_matches(web), protocols.join(","))
        })
        .collect();
    assert_eq!(chains, [":80 ", ":90 ", ":100 http/1.0,http/1.1,h2c", ":100 tcp "]);
    let filter = format!("{:?}", inbound.filter_chains[1].filters[0]);
    assert!(filter.contains("tcp_proxy"));
    assert_eq!(inbound.listener_filters.len(), 2, "one port is sniffed");
    assert_eq!(
        conditions(&model, Kind::TCPRoute, "shop", "split"),
        [
            ("Accepted", true, "Accepted"),
            ("ResolvedRefs", false, "BackendNotFound")
        ]
    );
}

/// Without addresses of its own it is dialled at those of its endpoints.
#[test]
fn a_headless_service_is_found_by_the_addresses_of_its_endpoints() {
    let shop = shop().replacen("clusterIP: 198.19.0.1", "clusterIP: None", 1);
    let mut world = World::of(&shop);
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    let addresses = |model: &Model| -> Vec<String> {
        let inbound: Listener = get(model, LISTENER_TYPE, "shop/wp/inbound").unwrap();
        let matched = inbound.filter_chains[0].filter_chain_match.clone().unwrap();
        matched
            .prefix_ranges
            .into_iter()
            .map(|range| range.address_prefix)
            .collect()
    };
    assert_eq!(addresses(&model), ["198.18.0.1"]);
    world.apply(&pod("web", "198.18.0.9", ""));
    model.update(&world.objects(), Instant::now());
    assert_eq!(addresses(&model), ["198.18.0.9"]);
}

/// Whatever comes when, what is there in the end is the same.
#[test]
fn objects_in_any_order_come_to_the_same() {
    let all = shop() + &route("split", NINETY);
    let mut at_once = Model::default();
    at_once.update(&World::of(&all).objects(), Instant::now());
    let documents: Vec<String> = all.split("---\n").map(|document| format!("---\n{document}")).collect();
    for skip in 0..documents.len() {
        let mut world = World::default();
        let mut model = Model::default();
        let (later, first) = documents.split_at(skip);
        for document in first.iter().chain(later) {
            world.apply(document);
            model.update(&world.objects(), Instant::now());
        }
        for type_url in [LISTENER_TYPE, CLUSTER_TYPE, ROUTE_TYPE, ENDPOINT_TYPE] {
            assert_eq!(names(&model, type_url), names(&at_once, type_url));
            for name in names(&model, type_url) {
                let version = |model: &Model| model.snapshot().version(type_url, &name);
                assert_eq!(version(&model), version(&at_once), "{name}");
            }
        }
    }
}
