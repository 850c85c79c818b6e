//! What holds for connections to backends: DestinationRules, one or several, and an annotation of the Service.

use culvert_envoy::cluster::wants_peak_ewma;
use culvert_envoy::pb::envoy::config::cluster::v3::Cluster;
use culvert_envoy::pb::envoy::config::cluster::v3::cluster::LbConfig;
use culvert_envoy::pb::envoy::config::core::v3::{TransportSocket, transport_socket::ConfigType};
use culvert_envoy::pb::envoy::config::listener::v3::{Listener, filter};
use culvert_envoy::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use culvert_envoy::pb::envoy::extensions::transport_sockets::internal_upstream::v3::InternalUpstreamTransport;
use culvert_envoy::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use culvert_envoy::pb::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
use culvert_envoy::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use culvert_envoy::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
};
use culvert_envoy::pb::google::protobuf::{Any, Duration};
use culvert_envoy::{CLUSTER_TYPE, LISTENER_TYPE, unpack};

use super::waypoints::{get, shop};
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

const PORTS: &str = "ports: [{name: http, port: 80, targetPort: 8080}, {name: grpc, port: 81}, {name: tcp, port: 82}]";

fn ports() -> String {
    shop().replacen("ports: [{name: http, port: 80, targetPort: 8080}]", PORTS, 1)
}

/// For how long connections of bytes last at port 82: how long they may be silent, and how long at all, in milliseconds.
fn lasting(model: &Model) -> (Option<i64>, Option<i64>) {
    let inbound: Listener = get(model, LISTENER_TYPE, "shop/wp/inbound").unwrap();
    let mut chains = inbound.filter_chains.iter();
    let chain = chains.find(|chain| chain.name.ends_with(":82")).unwrap();
    let Some(filter::ConfigType::TypedConfig(config)) = &chain.filters.last().unwrap().config_type else {
        panic!("{chain:?}")
    };
    let proxy: TcpProxy = unpack(config).unwrap();
    (
        millis(proxy.idle_timeout),
        millis(proxy.max_downstream_connection_duration),
    )
}

fn millis(time: Option<Duration>) -> Option<i64> {
    time.map(|time| time.seconds * 1000 + i64::from(time.nanos) / 1_000_000)
}

fn options(model: &Model, port: u16) -> HttpProtocolOptions {
    let name = format!("shop/wp/shop/web.shop.svc.cluster.local:{port}");
    let made: Cluster = get(model, CLUSTER_TYPE, &name).unwrap();
    unpack(made.typed_extension_protocol_options.values().next().unwrap()).unwrap()
}

#[test]
fn the_first_backends_rule_says_how_long_connections_of_bytes_last() {
    let web = rule(
        "web",
        1,
        "{host: web, trafficPolicy: {connectionPool: {tcp: {idleTimeout: 5m, maxConnectionDuration: 5us}, \
         http: {http2KeepAlive: {interval: 10s}}}}}",
    );
    let mut world = World::of(&(ports() + &web));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    // Of Envoy nothing shorter than a millisecond may be asked.
    assert_eq!(lasting(&model), (Some(300_000), Some(1)));
    let idle = options(&model, 80).common_http_protocol_options.unwrap().idle_timeout;
    assert_eq!(millis(idle), Some(300_000), "where HTTP has no time of its own");
    let Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) = options(&model, 81).upstream_protocol_options
    else {
        panic!("{:?}", options(&model, 81))
    };
    let Some(ProtocolConfig::Http2ProtocolOptions(http2)) = explicit.protocol_config else {
        panic!("{explicit:?}")
    };
    let pings = http2.connection_keepalive.unwrap();
    assert_eq!(
        (millis(pings.interval), millis(pings.timeout)),
        (Some(10_000), Some(20_000))
    );

    let route = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {name: r, namespace: shop}\n\
        spec: {parentRefs: [{group: '', kind: Service, name: web, port: 82}], \
        rules: [{backendRefs: [{name: v2, port: 80}, {name: web, port: 82}]}]}\n";
    world.apply(route);
    model.update(&world.objects(), Instant::now());
    assert_eq!(lasting(&model), (None, None));
    world.apply(&rule(
        "v2",
        1,
        "{host: v2, trafficPolicy: {connectionPool: {tcp: {idleTimeout: 1h}}, \
        portLevelSettings: [{port: {number: 80}, connectionPool: {tcp: {idleTimeout: 0s}}}]}}",
    ));
    model.update(&world.objects(), Instant::now());
    assert_eq!(lasting(&model), (Some(0), None), "as long as it likes");
    assert!(model.findings().is_empty(), "{:?}", model.findings());
}

#[test]
fn the_proxy_protocol_is_in_front_of_tls_and_inside_of_the_tunnel_for_pods_by_their_own_addresses_too() {
    let typed = |socket: Option<TransportSocket>| -> Any {
        let Some(ConfigType::TypedConfig(config)) = socket.unwrap().config_type else {
            panic!("no transport")
        };
        config
    };
    let web = rule(
        "web",
        1,
        "{host: web, trafficPolicy: {proxyProtocol: {version: V2}, tls: {mode: SIMPLE, sni: a.example}}}",
    );
    let mut world = World::of(&(ports().replace("culvert-waypoint", "culvert-envoy") + &web));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    for name in [
        "shop/wp/shop/web.shop.svc.cluster.local:80",
        "shop/wp/direct-tunnel own shop/web.shop.svc.cluster.local:80",
    ] {
        let made: Cluster = get(&model, CLUSTER_TYPE, name).unwrap_or_else(|| panic!("{name} is not there"));
        let tunnel: InternalUpstreamTransport = unpack(&typed(made.transport_socket)).unwrap();
        let head: ProxyProtocolUpstreamTransport = unpack(&typed(tunnel.transport_socket)).unwrap();
        assert_eq!(head.config.unwrap().version().as_str_name(), "V2");
        let tls: UpstreamTlsContext = unpack(&typed(head.transport_socket)).unwrap();
        assert_eq!(tls.sni, "a.example");
    }
    assert!(model.findings().is_empty(), "{:?}", model.findings());
    // Connections must not go in another way than asked for.
    world.apply(&rule(
        "web",
        1,
        "{host: web, trafficPolicy: {proxyProtocol: {version: V3}}}",
    ));
    model.update(&world.objects(), Instant::now());
    let findings: Vec<String> = model.findings().keys().map(ToString::to_string).collect();
    let refused = |found: &String| found.contains("proxyProtocol") && found.contains("there is no endpoint");
    assert!(findings.iter().any(refused), "{findings:#?}");
}
