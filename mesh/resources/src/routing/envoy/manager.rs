//! What reads the requests to a port: Envoy's HttpConnectionManager.

use culvert_envoy::pb::envoy::config::core::v3::{Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions};
use culvert_envoy::pb::envoy::config::listener::v3::Filter;
use culvert_envoy::pb::envoy::extensions::filters::http::stateful_session::v3::StatefulSession;
use culvert_envoy::pb::envoy::extensions::filters::http::{
    composite::v3::Composite, cors::v3::Cors, fault::v3::HttpFault, router::v3::Router,
};
use culvert_envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager,
    http_connection_manager::{PathWithEscapedSlashesAction, RouteSpecifier, UpgradeConfig},
};

use super::super::policy::Timeouts;
use super::filters::{CORS, FAULT, SESSION};
use super::parts::{self, http_filter};
use super::port::Port;
use super::{access, checks, external_auth, policy, telemetry, tokens};

/// What reads requests to a port. `host` is that of a request that names none.
pub(super) fn manager(scope: &str, port: &Port, name: &str, host: &str, routes: RouteSpecifier) -> Filter {
    let websocket = UpgradeConfig {
        upgrade_type: "websocket".to_owned(),
        ..UpgradeConfig::default()
    };
    let times = policy::times_of_port(&port.policies);
    let manager = HttpConnectionManager {
        stat_prefix: name.to_owned(),
        access_log: telemetry::logs(&port.telemetry),
        tracing: port
            .telemetry
            .tracing
            .as_ref()
            .map(|spans| telemetry::tracing(spans, &own_name(scope))),
        route_specifier: Some(routes),
        http_filters: tokens::filter(&port.access.tokens)
            .into_iter()
            .chain(checks::filters(scope, &port.access.checks))
            .chain(access::of_requests(&port.access.requests))
            .chain(policy::of_requests(scope, name, &port.policies))
            .chain([
                http_filter(FAULT, &HttpFault::default()),
                http_filter(CORS, &Cors {}),
                // Behind CORS: a preflight has nothing that could be asked about.
                http_filter(external_auth::NAME, &Composite::default()),
                // Nothing by itself: routes say whose sessions persist.
                http_filter(SESSION, &StatefulSession::default()),
            ])
            .chain(policy::of_answers(&port.policies))
            .chain([http_filter("envoy.filters.http.router", &Router::default())])
            .collect(),
        // Nothing where nobody asks for it: a stream may be silent for long.
        stream_idle_timeout: Some(parts::duration(times.stream_idle.unwrap_or_default())),
        request_timeout: times.receive.map(parts::duration),
        common_http_protocol_options: connections(&times),
        use_remote_address: parts::flag(false),
        http_protocol_options: Some(Http1ProtocolOptions {
            accept_http_10: true,
            default_host_for_http_10: host.to_owned(),
            ..Http1ProtocolOptions::default()
        }),
        http2_protocol_options: Some(Http2ProtocolOptions {
            allow_connect: true,
            ..Http2ProtocolOptions::default()
        }),
        upgrade_configs: vec![websocket],
        normalize_path: parts::flag(true),
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::KeepUnchanged.into(),
        ..HttpConnectionManager::default()
    };
    parts::filter("envoy.filters.network.http_connection_manager", &manager)
}

/// What holds for clients' connections and all of their streams; none where nothing does.
fn connections(times: &Timeouts) -> Option<HttpProtocolOptions> {
    let says_something = times.client_idle.is_some() || times.stream_duration.is_some();
    says_something.then(|| HttpProtocolOptions {
        idle_timeout: times.client_idle.map(parts::duration),
        // Here rather than at routes, where it would take the place of their own timeouts.
        max_stream_duration: times.stream_duration.map(parts::duration),
        ..HttpProtocolOptions::default()
    })
}

/// What the waypoint of a scope, `NAMESPACE/GATEWAY`, calls itself in spans: as Istio's do.
fn own_name(scope: &str) -> String {
    let (namespace, gateway) = scope.split_once('/').unwrap_or(("", scope));
    format!("{gateway}.{namespace}")
}
