//! What holds for connections to backends: DestinationRules, one or several, and an annotation of the Service.

use culvert_envoy::CLUSTER_TYPE;
use culvert_envoy::cluster::wants_peak_ewma;
use culvert_envoy::pb::envoy::config::cluster::v3::Cluster;
use culvert_envoy::pb::envoy::config::cluster::v3::cluster::LbConfig;

use super::*;

const WEB: &str = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: wp, namespace: shop}\n\
    spec: {gatewayClassName: culvert-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}\n---\n\
    apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop, labels: {culvert.dev/use-waypoint: wp}, \
    annotations: {culvert.dev/load-balancer: peak-ewma}}\n\
    spec: {clusterIP: 198.19.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}\n";

fn rule(name: &str, second: u8, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: {name}, namespace: shop, creationTimestamp: '2026-01-01T00:00:0{second}Z'}}\nspec: {spec}\n"
    )
}

fn cluster(model: &Model, subset: &str) -> Option<Cluster> {
    let name = format!("shop/wp/shop/web.shop.svc.cluster.local:80{subset}");
    let entry = model.snapshot().get(CLUSTER_TYPE, &name)?;
    Some(Cluster::decode(&*entry.body).unwrap())
}

#[test]
fn rules_of_one_host_hold_together_and_what_of_the_younger_does_not_is_named() {
    let rules = [
        rule("b", 1, "{host: web, subsets: [{name: one, labels: {v: a}}]}"),
        rule(
            "a",
            2,
            "{host: web.shop.svc.cluster.local, trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}, \
             subsets: [{name: one, labels: {v: b}}, {name: two, labels: {v: b}}]}",
        ),
        rule(
            "c",
            3,
            "{host: web, trafficPolicy: {connectionPool: {tcp: {maxConnections: 9}}}}",
        ),
        rule(
            "d",
            4,
            "{host: web, exportTo: ['.'], subsets: [{name: three, labels: {v: c}}]}",
        ),
    ];
    let model = made(&(WEB.to_owned() + &rules.concat()));
    let most = |subset: &str| {
        let breakers = cluster(&model, subset)?.circuit_breakers?;
        breakers.thresholds[0].max_connections.map(|most| most.value)
    };
    assert_eq!(
        (most(""), most("/one"), most("/two"), most("/three")),
        (Some(7), Some(7), Some(7), None)
    );
    let findings: Vec<String> = model.findings().keys().map(ToString::to_string).collect();
    for expected in [
        "DestinationRule shop/a: spec.subsets[0]: web.shop.svc.cluster.local has subset one of DestinationRule shop/b",
        "DestinationRule shop/c: spec.trafficPolicy: web.shop.svc.cluster.local has the policy of DestinationRule shop/a",
        "DestinationRule shop/d: spec.host: web.shop.svc.cluster.local has DestinationRule shop/b",
    ] {
        assert!(
            findings.iter().any(|found| found.starts_with(expected)),
            "{expected}: {findings:#?}"
        );
    }
}

#[test]
fn budgets_streams_probes_and_the_beginning_of_new_endpoints_reach_the_waypoint() {
    let policy = "{host: web, trafficPolicy: {retryBudget: {percent: 12.5, minRetryConcurrency: 4}, \
        connectionPool: {http: {maxConcurrentStreams: 17}, tcp: {tcpKeepalive: {time: 60s, probes: 3}}}, \
        loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 30s, minimumPercent: 20}}, \
        portLevelSettings: [{port: {number: 81}, loadBalancer: {simple: RANDOM, warmup: {duration: 30s}}}]}}";
    let model = made(&(WEB.to_owned() + &rule("a", 1, policy)));
    let made = cluster(&model, "").unwrap();
    let budget = made.circuit_breakers.as_ref().unwrap().thresholds[0]
        .retry_budget
        .as_ref()
        .unwrap();
    assert_eq!(budget.budget_percent.as_ref().map(|percent| percent.value), Some(12.5));
    assert_eq!(budget.min_retry_concurrency.as_ref().map(|least| least.value), Some(4));
    let probes = made
        .upstream_connection_options
        .as_ref()
        .unwrap()
        .tcp_keepalive
        .as_ref()
        .unwrap();
    assert_eq!(probes.keepalive_time.as_ref().map(|time| time.value), Some(60));
    assert!(probes.keepalive_interval.is_none());
    let Some(LbConfig::RoundRobinLbConfig(config)) = &made.lb_config else {
        panic!("{:?}", made.lb_config)
    };
    let slow_start = config.slow_start_config.as_ref().unwrap();
    assert_eq!(
        slow_start.min_weight_percent.as_ref().map(|percent| percent.value),
        Some(20.0)
    );
    let metadata = made.metadata.as_ref().unwrap();
    assert!(wants_peak_ewma(&metadata.filter_metadata[culvert_envoy::CULVERT]));
    let findings: Vec<String> = model.findings().keys().map(ToString::to_string).collect();
    let idle =
        "spec.trafficPolicy.portLevelSettings[0].loadBalancer.warmup: is for LEAST_REQUEST and ROUND_ROBIN alone";
    assert!(findings.iter().any(|found| found.contains(idle)), "{findings:#?}");
}
