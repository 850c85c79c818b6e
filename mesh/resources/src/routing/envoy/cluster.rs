//! A port of a Service as a backend.

use std::collections::HashMap;
use std::time::Duration;

use culvert_envoy::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use culvert_envoy::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, EdsClusterConfig,
};
use culvert_envoy::pb::envoy::config::cluster::v3::{CircuitBreakers, Cluster};
use culvert_envoy::pb::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as CommonOptions,
};
use culvert_envoy::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use culvert_envoy::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig, explicit_http_config::ProtocolConfig,
};
use culvert_envoy::pb::envoy::r#type::v3::Percent;
use culvert_envoy::pb::google::protobuf::Any;
use culvert_envoy::{CULVERT, ORIGINAL_DST, names, pack};

use super::super::protocol::Protocol;
use super::super::traffic::{Pool, Traffic};
use super::{health_check, parts, traffic};

const PROTOCOL_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// A port of `service`, or of a subset of its endpoints, as a backend of the waypoint `scope`.
pub(crate) fn cluster(
    scope: &str,
    service: &str,
    port: u16,
    subset: Option<&str>,
    protocol: Protocol,
    policy: &Traffic,
) -> Cluster {
    let name = names::cluster(scope, service, port, subset);
    let mut cluster = Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(parts::ads()),
            ..EdsClusterConfig::default()
        }),
        common_lb_config: Some(CommonLbConfig {
            // Endpoints that are not healthy get nothing, however few are left.
            healthy_panic_threshold: Some(Percent { value: 0.0 }),
            ..CommonLbConfig::default()
        }),
        typed_extension_protocol_options: upstream(protocol, &policy.pool),
        transport_socket: Some(parts::internal_upstream(&[ORIGINAL_DST])),
        ..base(name)
    };
    traffic::apply(policy, &mut cluster);
    if let Some(check) = &policy.health_check {
        let host = service.split_once('/').map_or(service, |(_, host)| host);
        let is_http2 = protocol == Protocol::Http2 || protocol != Protocol::Tcp && policy.pool.is_upgraded;
        let message = health_check::message(check, host, is_http2);
        // Not where Envoy would read it: its checks come from its main thread, which reaches no internal listener, so that all endpoints
        // behind the tunnel would fail them.
        let metadata = cluster.metadata.get_or_insert_default();
        metadata
            .typed_filter_metadata
            .insert(CULVERT.to_owned(), pack(&message));
    }
    cluster
}

/// What all clusters have in common: no limits of their own.
pub(super) fn base(name: String) -> Cluster {
    let most = || parts::number(u32::MAX);
    let thresholds = Thresholds {
        max_connections: most(),
        max_pending_requests: most(),
        max_requests: most(),
        max_retries: most(),
        ..Thresholds::default()
    };
    Cluster {
        name,
        connect_timeout: Some(parts::duration(Duration::from_secs(10))),
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![thresholds],
            ..CircuitBreakers::default()
        }),
        ..Cluster::default()
    }
}

fn upstream(protocol: Protocol, pool: &Pool) -> HashMap<String, Any> {
    let explicit = |config| {
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(config),
        })
    };
    let protocol = match protocol {
        Protocol::Http1 | Protocol::Http2 if pool.uses_client_protocol => Protocol::Unknown,
        Protocol::Http1 | Protocol::Unknown if pool.is_upgraded => Protocol::Http2,
        other => other,
    };
    let http2 = || Http2ProtocolOptions {
        max_concurrent_streams: pool.streams.and_then(parts::number),
        ..Http2ProtocolOptions::default()
    };
    let options = match protocol {
        Protocol::Tcp => return HashMap::new(),
        Protocol::Http1 => explicit(ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())),
        Protocol::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(http2())),
        Protocol::Unknown => UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
            http_protocol_options: Some(Http1ProtocolOptions::default()),
            http2_protocol_options: Some(http2()),
            ..UseDownstreamHttpConfig::default()
        }),
    };
    protocol_options(options, traffic::connections(pool))
}

pub(super) fn protocol_options(
    options: UpstreamProtocolOptions,
    connections: Option<CommonOptions>,
) -> HashMap<String, Any> {
    let options = HttpProtocolOptions {
        common_http_protocol_options: connections,
        upstream_protocol_options: Some(options),
        ..HttpProtocolOptions::default()
    };
    HashMap::from([(PROTOCOL_OPTIONS.to_owned(), pack(&options))])
}
