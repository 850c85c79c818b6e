//! What waypoints are told.

use culvert_envoy::pb::envoy::config::cluster::v3::Cluster;
use culvert_envoy::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, lb_endpoint::HostIdentifier};
use culvert_envoy::pb::envoy::config::listener::v3::Listener;
use culvert_envoy::pb::envoy::config::route::v3::route::Action;
use culvert_envoy::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use culvert_envoy::pb::envoy::config::route::v3::{Route, RouteConfiguration};
use culvert_envoy::{CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE};

use super::*;

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
fn shop() -> String {
    SHOP.to_owned()
        + WAYPOINT
        + &service("web", "198.19.0.1", BEHIND)
        + &service("v1", "198.19.0.2", "")
        + &service("v2", "198.19.0.3", "")
        + &pod("web", "198.18.0.1", "")
        + &pod("v1", "198.18.0.2", "")
        + &pod("v2", "198.18.0.3", "")
}

fn get<M: prost::Message + Default>(model: &Model, type_url: &str, name: &str) -> Option<M> {
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
    // By an object, the class is ours.
    let class = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: nginx}\n\
        spec: {controllerName: culvert.dev/waypoint}\n";
    model.update(&World::of(&(foreign + class)).objects(), Instant::now());
    assert_eq!(names(&model, LISTENER_TYPE).len(), 3);
    let closed = shop().replace(
        "port: 15008,",
        "port: 15008, allowedRoutes: {namespaces: {from: None}},",
    );
    model.update(&World::of(&closed).objects(), Instant::now());
    assert_eq!(names(&model, ROUTE_TYPE), [""; 0]);
}
