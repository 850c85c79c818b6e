//! What the times of TrafficPolicies come to.

use super::*;
use culvert_envoy::ROUTE_TYPE;
use culvert_envoy::pb::envoy::config::listener::v3::{Listener, filter::ConfigType};
use culvert_envoy::pb::envoy::config::route::v3::{RouteAction, RouteConfiguration, route::Action};
use culvert_envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use culvert_envoy::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use culvert_envoy::pb::google::protobuf;

const WEB_PORT: &str = "shop/wp/shop/web.shop.svc.cluster.local:80";

fn seconds(seconds: i64) -> Option<protobuf::Duration> {
    Some(protobuf::Duration { seconds, nanos: 0 })
}

fn manager(model: &Model) -> HttpConnectionManager {
    let listener: Listener = get(model, LISTENER_TYPE, "shop/wp/inbound").unwrap();
    let Some(ConfigType::TypedConfig(config)) = &listener.filter_chains[0].filters[0].config_type else {
        panic!("{listener:?}")
    };
    unpack(config).unwrap()
}

fn actions(model: &Model) -> Vec<RouteAction> {
    let mut made: RouteConfiguration = get(model, ROUTE_TYPE, WEB_PORT).unwrap();
    let routes = made.virtual_hosts.remove(0).routes.into_iter();
    let action = |route: culvert_envoy::pb::envoy::config::route::v3::Route| match route.action {
        Some(Action::Route(action)) => action,
        other => panic!("{other:?}"),
    };
    routes.map(action).collect()
}

/// A route with a rule that has a timeout, and one that has none.
fn rules() -> String {
    "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\n\
     spec: {parentRefs: [{group: '', kind: Service, name: web}], rules: [\
     {name: first, matches: [{path: {value: /first}}], timeouts: {request: 5s}, backendRefs: [{name: v1, port: 80}]},\
     {name: second, backendRefs: [{name: v1, port: 80}]}]}\n"
        .to_owned()
}

#[test]
fn times_of_a_service_are_told_for_its_port_and_for_its_endpoints() {
    let mut world = World::of(&shop());
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    let before = manager(&model);
    assert_eq!(
        (&before.stream_idle_timeout, &before.request_timeout),
        (&seconds(0), &None)
    );
    assert_eq!(before.common_http_protocol_options, None);
    world.apply(&policy(
        "times",
        1,
        WEB,
        "timeouts: {streamIdle: 1s, streamDuration: 2s, requestReceive: 3s, clientIdle: 4s, endpointIdle: 6s}",
    ));
    model.update(&world.objects(), Instant::now());
    assert_eq!(reasons(&model, "times"), ["Accepted"]);
    let manager = manager(&model);
    let common = manager.common_http_protocol_options.unwrap();
    assert_eq!(
        (manager.stream_idle_timeout, manager.request_timeout),
        (seconds(1), seconds(3))
    );
    assert_eq!(
        (common.max_stream_duration, common.idle_timeout),
        (seconds(2), seconds(4))
    );
    // Routes leave it to that.
    let action = actions(&model).remove(0);
    assert_eq!((&action.idle_timeout, &action.max_stream_duration), (&None, &None));
    let cluster: Cluster = get(&model, CLUSTER_TYPE, WEB_PORT).unwrap();
    let options = cluster.typed_extension_protocol_options.values().next().unwrap();
    let options: HttpProtocolOptions = unpack(options).unwrap();
    assert_eq!(options.common_http_protocol_options.unwrap().idle_timeout, seconds(6));
    world
        .assembly
        .remove(Kind::TrafficPolicy, &ObjectName::new("shop", "times"));
    model.update(&world.objects(), Instant::now());
    assert_eq!(super::times::manager(&model), before);
}

#[test]
fn a_rules_own_times_hold_before_its_services_and_its_own_timeout_where_it_is_shorter() {
    let first = ROUTE.replace("name: r", "name: r, sectionName: first");
    let of = |service: &str, rule: &str| {
        let text = shop() + &rules() + &policy("a", 1, WEB, service) + &policy("b", 1, &first, rule);
        let mut actions = actions(&of(&text));
        assert_eq!(actions[0].timeout, seconds(5));
        let second = actions.pop().unwrap();
        let first = actions.pop().unwrap();
        let told = |action: RouteAction| {
            let stream = action.max_stream_duration;
            let stream = stream.map(|stream| (stream.max_stream_duration, stream.grpc_timeout_header_max));
            (action.idle_timeout, stream)
        };
        (told(first), told(second))
    };
    // What a rule says itself; of its timeout Envoy takes nothing beside a duration.
    let own = of(
        "timeouts: {streamIdle: 1s, streamDuration: 9s}",
        "timeouts: {streamIdle: 0s, streamDuration: 7s}",
    );
    assert_eq!(own, ((seconds(0), Some((seconds(5), None))), (None, None)));
    let any = of("timeouts: {streamDuration: 9s}", "timeouts: {streamDuration: 0s}");
    assert_eq!(any.0, (None, Some((seconds(5), None))));
    let shorter = of("timeouts: {streamDuration: 9s}", "timeouts: {streamDuration: 2s}");
    assert_eq!(shorter.0, (None, Some((seconds(2), None))));
    // What clients of gRPC ask for is said at routes alone, with what holds beside it.
    let grpc = of(
        "timeouts: {streamDuration: 9s, grpcTimeoutMax: 30s}",
        "timeouts: {streamIdle: 3s}",
    );
    assert_eq!(grpc.0, (seconds(3), Some((seconds(5), seconds(5)))));
    assert_eq!(grpc.1, (None, Some((seconds(9), seconds(30)))));
    let asked = of("timeouts: {grpcTimeoutMax: 0s}", "timeouts: {grpcTimeoutMax: 3s}");
    assert_eq!(
        asked,
        ((None, Some((seconds(5), seconds(3)))), (None, Some((None, seconds(0)))))
    );
}

#[test]
fn what_endpoints_ask_to_wait_counts_for_rules_that_try_again_alone() {
    let retry = "timeouts: {request: 5s}, retry: {codes: [503], attempts: 1}";
    let rules = rules().replace("timeouts: {request: 5s}", retry);
    let model = of(&(shop() + &rules + &policy("again", 1, WEB, "retry: {retryAfterMax: 1m}")));
    let most: Vec<_> = actions(&model)
        .into_iter()
        .map(|action| {
            let policy = action.retry_policy?;
            let asked = policy.rate_limited_retry_back_off?;
            assert_eq!(asked.reset_headers[0].name, "retry-after");
            asked.max_interval
        })
        .collect();
    assert_eq!(most[0], seconds(60));
    assert!(most[1].is_none() || most[1] == seconds(60), "{most:?}");
}

#[test]
fn times_that_nobody_can_mean_are_said_by_their_field_and_nothing_of_their_policy_holds() {
    let route_of = |spec: &str| policy("bad", 1, ROUTE, spec);
    for (object, field) in [
        (
            policy("bad", 1, WEB, "timeouts: {streamIdle: 1s, clientIdle: soon}"),
            "spec.timeouts.clientIdle",
        ),
        (
            policy("bad", 1, WEB, "timeouts: {streamIdle: 1s, idle: 1s}"),
            "spec.timeouts.idle",
        ),
        (
            policy("bad", 1, WEB, "timeouts: {streamIdle: 1s}, retry: {retryAfterMax: 2h}"),
            "spec.retry.retryAfterMax",
        ),
        (
            route_of("timeouts: {streamIdle: 1s, requestReceive: 1s}"),
            "spec.timeouts.requestReceive",
        ),
    ] {
        let model = of(&(shop() + &rules() + &object));
        assert_eq!(reasons(&model, "bad"), ["Invalid"], "{field}");
        let found = model
            .findings()
            .keys()
            .any(|finding| finding.field.as_deref() == Some(field) && finding.to_string().contains("shop/bad"));
        assert!(found, "{field}: {:?}", model.findings());
        assert_eq!(manager(&model).stream_idle_timeout, seconds(0));
        assert!(actions(&model).iter().all(|action| action.idle_timeout.is_none()));
    }
}
