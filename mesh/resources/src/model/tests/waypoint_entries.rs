//! ServiceEntries behind waypoints: routes for them, hosts as backends, and how their endpoints are found.

use culvert_envoy::pb::envoy::config::cluster::v3::{
    Cluster,
    cluster::{ClusterDiscoveryType, DiscoveryType},
};
use culvert_envoy::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use culvert_envoy::pb::envoy::config::listener::v3::Listener;
use culvert_envoy::pb::envoy::config::route::v3::RouteConfiguration;
use culvert_envoy::{CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE};

use super::waypoints::{conditions, findings, get, shop};
use super::*;

fn entry(namespace: &str, name: &str, labels: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: {namespace}, labels: {labels}}}\n\
         spec: {{ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8080}}], {spec}}}\n"
    )
}

const BEHIND: &str = "{culvert.dev/use-waypoint: wp}";

fn route(kind: &str, name: &str, parent: &str, backend: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{parentRefs: [{{group: networking.istio.io, kind: ServiceEntry, name: {parent}, port: 80}}], \
         rules: [{{backendRefs: [{{group: networking.istio.io, kind: Hostname, name: {backend}, port: 80}}]}}]}}\n"
    )
}

fn modelled(text: &str) -> Model {
    let mut model = Model::default();
    model.update(&World::of(text).objects(), Instant::now());
    model
}

fn cluster(model: &Model, service: &str) -> Option<Cluster> {
    get(model, CLUSTER_TYPE, &format!("shop/wp/{service}:80"))
}

fn kind(cluster: &Cluster) -> DiscoveryType {
    match cluster.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(kind)) => DiscoveryType::try_from(kind).unwrap(),
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn a_route_for_an_entry_is_in_force_at_each_of_its_hosts_and_leads_to_hosts_that_its_namespace_sees() {
    let api = "hosts: [api.example, b.example], addresses: [192.0.2.1], resolution: STATIC, endpoints: [{address: 192.0.2.2}]";
    let far = "hosts: [far.example], addresses: [192.0.2.3], resolution: STATIC, endpoints: [{address: 192.0.2.4}]";
    let calls = "hosts: [calls.example], addresses: [192.0.2.6], resolution: STATIC, endpoints: [{address: 192.0.2.7}]";
    let hidden = "hosts: [hidden.example], resolution: STATIC, endpoints: [{address: 192.0.2.5}], exportTo: [.]";
    let text = shop()
        + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: bank}\n"
        + &entry("shop", "api", BEHIND, api)
        + &entry("bank", "far", "{}", far)
        + &entry("bank", "hidden", "{}", hidden)
        + &route("HTTPRoute", "r", "api", "far.example")
        + &entry("shop", "calls", BEHIND, calls)
        + &route("GRPCRoute", "g", "calls", "hidden.example")
        + &route("TCPRoute", "t", "api", "far.example");
    let model = modelled(&text);
    for host in ["api.example", "b.example"] {
        let name = format!("shop/wp/shop/{host}:80");
        let made: RouteConfiguration = get(&model, ROUTE_TYPE, &name).unwrap_or_else(|| panic!("no {name}"));
        let text = format!("{made:?}");
        assert!(text.contains("shop/wp/bank/far.example:80"), "{text}");
    }
    // The waypoint is told where the other entry is, which is behind none.
    assert!(cluster(&model, "bank/far.example").is_some());
    assert!(cluster(&model, "bank/hidden.example").is_none());
    let resolved = ("ResolvedRefs", true, "ResolvedRefs");
    assert_eq!(
        conditions(&model, Kind::HTTPRoute, "shop", "r"),
        [("Accepted", true, "Accepted"), resolved]
    );
    assert_eq!(
        conditions(&model, Kind::GRPCRoute, "shop", "g"),
        [
            ("Accepted", true, "Accepted"),
            ("ResolvedRefs", false, "BackendNotFound")
        ]
    );
    // HTTP is spoken there.
    assert_eq!(
        conditions(&model, Kind::TCPRoute, "shop", "t"),
        [("Accepted", false, "NoMatchingParent"), resolved]
    );
    let status = model
        .route_status(Kind::HTTPRoute, &ObjectName::new("shop", "r"))
        .unwrap();
    assert_eq!(status.parents[0].kind, "ServiceEntry");
    assert!(model.rules(&ObjectName::new("shop", "api")).is_some());
}

/// In this network its address is somebody else's, or nobody's.
#[test]
fn an_endpoint_of_another_network_is_none_of_a_waypoints() {
    let api = "hosts: [api.example], addresses: [192.0.2.1], resolution: STATIC, \
        endpoints: [{address: 192.0.2.2}, {address: 192.0.2.3, network: far}]";
    let model = modelled(&(shop() + &entry("shop", "api", BEHIND, api)));
    let told: ClusterLoadAssignment = get(&model, ENDPOINT_TYPE, "shop/wp/shop/api.example:80").unwrap();
    let told = format!("{told:?}");
    assert!(told.contains("192.0.2.2") && !told.contains("192.0.2.3"), "{told}");
}

#[test]
fn an_entry_that_is_behind_no_waypoint_has_no_route_in_force() {
    let api = "hosts: [api.example], addresses: [192.0.2.1], resolution: STATIC, endpoints: [{address: 192.0.2.2}]";
    let text = shop()
        + &entry("shop", "api", "{}", api)
        + &route("HTTPRoute", "r", "api", "api.example")
        + &route("HTTPRoute", "none", "nobody", "api.example");
    let model = modelled(&text);
    for name in ["r", "none"] {
        let conditions = conditions(&model, Kind::HTTPRoute, "shop", name);
        assert_eq!(conditions[0], ("Accepted", false, "NoMatchingParent"), "{name}");
    }
}

#[test]
fn names_are_left_to_the_waypoint_to_resolve_and_nothing_of_the_mesh_stands_beside_them() {
    let list =
        "endpoints: [{address: a.example, weight: 3}, {address: web.shop.svc.cluster.local}, {address: 198.18.0.1}]";
    let many = format!("hosts: [farm.example], addresses: [192.0.2.1], resolution: DNS, {list}");
    let turns = "hosts: [turns.example], addresses: [192.0.2.2], resolution: DNS_ROUND_ROBIN";
    let addressed =
        "hosts: [plain.example], addresses: [192.0.2.3], resolution: DNS, endpoints: [{address: 192.0.2.9}]";
    let text = shop()
        + &entry("shop", "farm", BEHIND, &many)
        + &entry("shop", "turns", BEHIND, turns)
        + &entry("shop", "plain", BEHIND, addressed);
    let model = modelled(&text);
    let farm = cluster(&model, "shop/farm.example").unwrap();
    assert_eq!(kind(&farm), DiscoveryType::StrictDns);
    let listed = format!("{:?}", farm.load_assignment);
    assert!(
        listed.contains("a.example") && !listed.contains("svc.cluster.local") && !listed.contains("198.18.0.1"),
        "{listed}"
    );
    let said = findings(&model).join("\n");
    assert!(
        said.contains("web.shop.svc.cluster.local is a name of the cluster"),
        "{said}"
    );
    let turns = cluster(&model, "shop/turns.example").unwrap();
    assert_eq!(kind(&turns), DiscoveryType::LogicalDns);
    // Without any name the controller tells the endpoints.
    let plain = cluster(&model, "shop/plain.example").unwrap();
    assert_eq!(kind(&plain), DiscoveryType::Eds);
    let told = |name: &str| get::<ClusterLoadAssignment>(&model, ENDPOINT_TYPE, &format!("shop/wp/shop/{name}:80"));
    assert!(told("plain.example").is_some());
    assert!(told("farm.example").is_none() && told("turns.example").is_none());
}

#[test]
fn who_dials_a_range_gets_there_and_no_other_route_leads_to_it() {
    let ranges = "hosts: ['*.nodes.example'], addresses: [192.0.2.0/24], resolution: NONE";
    let api = "hosts: [api.example], addresses: [198.51.100.1], resolution: STATIC, endpoints: [{address: 192.0.2.2}]";
    let text = shop()
        + &entry("shop", "nodes", BEHIND, ranges)
        + &entry("shop", "api", BEHIND, api)
        + &route("HTTPRoute", "own", "nodes", "'*.nodes.example'")
        + &route("HTTPRoute", "other", "api", "'*.nodes.example'");
    let model = modelled(&text);
    let nodes = cluster(&model, "shop/*.nodes.example").unwrap();
    assert_eq!(kind(&nodes), DiscoveryType::OriginalDst);
    let inbound: Listener = get(&model, LISTENER_TYPE, "shop/wp/inbound").unwrap();
    let ranges: Vec<String> = inbound
        .filter_chains
        .iter()
        .flat_map(|chain| &chain.filter_chain_match.as_ref().unwrap().prefix_ranges)
        .map(|range| format!("{}/{}", range.address_prefix, range.prefix_len.unwrap().value))
        .collect();
    assert!(ranges.contains(&"192.0.2.0/24".to_owned()), "{ranges:?}");
    let resolved = |name| conditions(&model, Kind::HTTPRoute, "shop", name)[1];
    assert_eq!(resolved("own"), ("ResolvedRefs", true, "ResolvedRefs"));
    assert_eq!(resolved("other"), ("ResolvedRefs", false, "BackendNotFound"));
}

#[test]
fn an_entry_whose_connections_would_go_otherwise_than_asked_for_has_no_endpoint_however_they_are_found() {
    let rule = |tls: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r, namespace: shop}}\n\
             spec: {{host: api.example, trafficPolicy: {{tls: {tls}}}}}\n"
        )
    };
    let found = [
        ("addresses: [192.0.2.1], resolution: NONE", DiscoveryType::OriginalDst),
        (
            "resolution: DNS, endpoints: [{address: far.example}]",
            DiscoveryType::StrictDns,
        ),
    ];
    for (how, is_found) in found {
        let of = |tls: &str| {
            modelled(&(shop() + &entry("shop", "api", BEHIND, &format!("hosts: [api.example], {how}")) + &rule(tls)))
        };
        let model = of("{mode: SIMPLE}");
        let good = cluster(&model, "shop/api.example").unwrap();
        assert_eq!(kind(&good), is_found, "{how}");
        assert!(good.transport_socket.is_some(), "{how}");
        let model = of("{mode: MUTUAL, credentialName: a}");
        let bad = cluster(&model, "shop/api.example").unwrap();
        let inline = bad.load_assignment.iter().flat_map(|assignment| &assignment.endpoints);
        assert_eq!(inline.map(|group| group.lb_endpoints.len()).sum::<usize>(), 0, "{how}");
        assert_ne!(kind(&bad), DiscoveryType::OriginalDst, "{how}");
        let told: Option<ClusterLoadAssignment> = get(&model, ENDPOINT_TYPE, "shop/wp/shop/api.example:80");
        assert!(told.is_none_or(|told| told.endpoints.is_empty()), "{how}");
    }
}
