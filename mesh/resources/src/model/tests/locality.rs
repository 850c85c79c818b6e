//! What waypoints are told of endpoints by where each of them is.

use culvert_envoy::pb::envoy::config::cluster::v3::Cluster;
use culvert_envoy::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use culvert_envoy::{CLUSTER_TYPE, ENDPOINT_TYPE};

use super::waypoints::{get, shop};
use super::*;
use crate::snapshot::{PLACED_TYPE, PROXY_TYPE, placed};

const CLUSTER: &str = "shop/wp/shop/web.shop.svc.cluster.local:80";

fn node(name: &str, zone: &str) -> String {
    let labels = format!("topology.kubernetes.io/region: r1, topology.kubernetes.io/zone: {zone}");
    format!("---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n")
}

fn on(name: &str, node: &str, address: &str, labels: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{{labels}}}}}\n\
         spec: {{nodeName: {node}}}\nstatus: {{podIP: {address}, conditions: [{{type: Ready, status: 'True'}}]}}\n"
    )
}

/// The shop with endpoints of `web` in the zones `za` and `zb`, and a pod of the waypoint in each.
fn zones() -> String {
    let gateway = "gateway.networking.k8s.io/gateway-name: wp";
    let waypoint = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: wp, namespace: shop, labels: {{{gateway}}}}}\n\
         spec: {{clusterIP: 198.19.0.9, selector: {{{gateway}}}, ports: [{{port: 15008}}]}}\n"
    );
    shop()
        + &node("n1", "za")
        + &node("n2", "zb")
        + &waypoint
        + &on("far", "n2", "198.18.1.1", "app: web")
        + &on("wp-1", "n1", "198.18.0.9", gateway)
        + &on("wp-2", "n2", "198.18.1.9", gateway)
}

fn rule(policy: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: web, namespace: shop}}\n\
         spec: {{host: web, trafficPolicy: {policy}}}\n"
    )
}

fn update(model: &mut Model, world: &mut World) {
    model.update(&world.objects(), Instant::now());
}

/// `PRIORITY ZONE WEIGHT` of each group of endpoints, as a waypoint at this place sees them.
fn seen(model: &Model, place: &str) -> Vec<String> {
    let found: ClusterLoadAssignment = get(model, PLACED_TYPE, &placed(CLUSTER, place)).unwrap_or_default();
    let group = |group: &culvert_envoy::pb::envoy::config::endpoint::v3::LocalityLbEndpoints| {
        let zone = &group.locality.as_ref().unwrap().zone;
        format!(
            "{} {zone} {}",
            group.priority,
            group.load_balancing_weight.unwrap().value
        )
    };
    found.endpoints.iter().map(group).collect()
}

fn all_placed(model: &Model) -> usize {
    model.snapshot().in_scope(PLACED_TYPE, "shop/wp").count()
}

#[test]
fn near_endpoints_come_first_where_failing_ones_are_left_out_and_nothing_grows_where_nobody_asks() {
    let mut world = World::of(&zones());
    let mut model = Model::default();
    update(&mut model, &mut world);
    assert_eq!(all_placed(&model), 0);
    world.apply(&rule("{outlierDetection: {consecutive5xxErrors: 2}}"));
    update(&mut model, &mut world);
    assert_eq!(all_placed(&model), 2, "one for each zone that the waypoint is in");
    assert_eq!(seen(&model, "r1/za/"), ["0 za 1", "1 zb 1"]);
    assert_eq!(seen(&model, "r1/zb/"), ["0 zb 1", "1 za 1"]);
    let everybody: ClusterLoadAssignment = get(&model, ENDPOINT_TYPE, CLUSTER).unwrap();
    assert!(everybody.endpoints.iter().all(|group| group.priority == 0));
    let proxy = model.snapshot().get(PROXY_TYPE, "shop/wp-2").unwrap();
    assert_eq!(&*proxy.body, b"n2\nr1/zb/\npod/wp-2");

    // A node is somewhere else: what is told of both follows.
    let version = model.snapshot().version(ENDPOINT_TYPE, CLUSTER);
    world.apply(&node("n2", "zc"));
    update(&mut model, &mut world);
    assert_eq!(seen(&model, "r1/za/"), ["0 za 1", "1 zc 1"]);
    assert_eq!(seen(&model, "r1/zc/"), ["0 zc 1", "1 za 1"]);
    assert!(seen(&model, "r1/zb/").is_empty());
    assert_ne!(
        model.snapshot().version(ENDPOINT_TYPE, CLUSTER),
        version,
        "who holds them is woken"
    );

    world.apply(&rule(
        "{outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: false}}}",
    ));
    update(&mut model, &mut world);
    assert_eq!(all_placed(&model), 0);
}

#[test]
fn shares_of_localities_are_their_weights() {
    let distribute = "{from: r1/za/*, to: {r1/za/*: 80, r1/zb/*: 20}}";
    let policy = format!("{{loadBalancer: {{localityLbSetting: {{distribute: [{distribute}]}}}}}}");
    let mut world = World::of(&(zones() + &rule(&policy)));
    let mut model = Model::default();
    update(&mut model, &mut world);
    assert_eq!(seen(&model, "r1/za/"), ["0 za 80", "0 zb 20"]);
    assert_eq!(
        seen(&model, "r1/zb/"),
        ["0 za 1", "0 zb 1"],
        "of this place nothing is said"
    );
    let cluster: Cluster = get(&model, CLUSTER_TYPE, CLUSTER).unwrap();
    assert!(cluster.common_lb_config.unwrap().locality_config_specifier.is_some());
    assert!(model.findings().is_empty(), "{:?}", model.findings());
}

#[test]
fn what_a_service_says_holds_where_no_rule_says_more_and_by_node_each_has_its_own() {
    let distributed = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop, \
        labels: {culvert.dev/use-waypoint: wp}}\nspec: {clusterIP: 198.19.0.1, selector: {app: web}, \
        trafficDistribution: PreferSameNode, ports: [{name: http, port: 80, targetPort: 8080}]}\n";
    let mut world = World::of(&(zones() + distributed));
    let mut model = Model::default();
    update(&mut model, &mut world);
    assert_eq!(seen(&model, "n1"), ["0 za 1", "1 zb 1"]);
    assert_eq!(seen(&model, "n2"), ["0 zb 1", "1 za 1"]);
    world.apply(&rule("{outlierDetection: {}}"));
    update(&mut model, &mut world);
    assert_eq!(
        seen(&model, "n1").len(),
        2,
        "a rule without a word of it changes nothing"
    );
}

#[test]
fn a_setting_that_has_no_effect_is_named_and_endpoints_stay() {
    let cases = [
        (
            "{failoverPriority: [topology.kubernetes.io/zone]}",
            "",
            "counts with outlierDetection alone",
        ),
        (
            "{failoverPriority: [topology.istio.io/network=a]}",
            ", outlierDetection: {}",
            "\"topology.istio.io/network=a\" is not served",
        ),
        (
            "{distribute: [{from: r1/*, to: {r1/*: 70}}]}",
            "",
            "the shares are 70 together",
        ),
        (
            "{distribute: [{from: '*/z', to: {r1/*: 100}}]}",
            "",
            "is no REGION/ZONE/SUBZONE",
        ),
        (
            "{failover: [{from: r1, to: r1}]}",
            ", outlierDetection: {}",
            "is the region itself",
        ),
    ];
    for (setting, more, finding) in cases {
        let policy = format!("{{loadBalancer: {{localityLbSetting: {setting}}}{more}}}");
        let mut world = World::of(&(zones() + &rule(&policy)));
        let mut model = Model::default();
        update(&mut model, &mut world);
        let found = super::waypoints::findings(&model).join("\n");
        assert!(found.contains(finding), "{setting}: {found}");
        let everybody: ClusterLoadAssignment = get(&model, ENDPOINT_TYPE, CLUSTER).unwrap();
        assert_eq!(everybody.endpoints.len(), 2, "{setting}");
    }
}

#[test]
fn labels_of_pods_rank_endpoints_for_each_pod_of_the_waypoint_by_its_own() {
    let ranked = |first: &str| {
        rule(&format!(
            "{{outlierDetection: {{}}, loadBalancer: {{localityLbSetting: {{failoverPriority: [{first}]}}}}}}"
        ))
    };
    let pods = |waypoint: &str, color: &str| {
        let gateway = "gateway.networking.k8s.io/gateway-name: wp";
        on("far", "n2", "198.18.1.1", "app: web, color: blue")
            + &on("wp-1", "n1", "198.18.0.9", &format!("{gateway}{waypoint}"))
            + &on("wp-2", "n2", "198.18.1.9", &format!("{gateway}, color: {color}"))
    };
    let mut world = World::of(&(zones() + &ranked("color")));
    world.apply(&pods("", "blue"));
    let mut model = Model::default();
    update(&mut model, &mut world);
    assert_eq!(seen(&model, "pod/wp-2"), ["0 zb 1", "1 za 1"]);
    // Both have none, which is the same.
    assert_eq!(seen(&model, "pod/wp-1"), ["0 za 1", "1 zb 1"]);
    assert_eq!(all_placed(&model), 2);

    world.apply(&pods(", color: blue", "red"));
    update(&mut model, &mut world);
    assert_eq!(seen(&model, "pod/wp-1"), ["0 zb 1", "1 za 1"]);
    assert_eq!(seen(&model, "pod/wp-2"), ["0 za 1", "0 zb 1"], "none is of its own");

    world.apply(&ranked("color=blue"));
    update(&mut model, &mut world);
    for pod in ["pod/wp-1", "pod/wp-2"] {
        assert_eq!(seen(&model, pod), ["0 zb 1", "1 za 1"]);
    }
    assert!(seen(&model, "r1/za/").is_empty());
}
