//! A port of a Service as a backend.

use std::collections::HashMap;
use std::time::Duration;

use culvert_envoy::cluster::put_mesh_ranges;
use culvert_envoy::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use culvert_envoy::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbPolicy, RefreshRate,
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

use super::super::backend_tls::Said;
use super::super::discovery::Discovery;
use super::super::locality::{Place, Preference};
use super::super::protocol::Protocol;
use super::super::traffic::{Pool, Traffic};
use super::{endpoints, health_check, parts, spoken, traffic};

const PROTOCOL_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// How often names are resolved whose answers do not say for how long they hold.
const REFRESH: Duration = Duration::from_secs(60);
/// How soon at first, and how seldom at last, names are resolved anew whose resolver does not answer.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A port of a Service, or of a subset of its endpoints, as a backend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backend<'a> {
    pub(crate) service: &'a str,
    pub(crate) port: u16,
    pub(crate) subset: Option<&'a str>,
    pub(crate) protocol: Protocol,
    pub(crate) policy: &'a Traffic,
    pub(crate) discovery: &'a Discovery,
}

/// It as a cluster of the waypoint `scope`.
pub(crate) fn cluster(scope: &str, backend: &Backend<'_>) -> Cluster {
    let Backend { protocol, policy, .. } = *backend;
    let name = names::cluster(scope, backend.service, backend.port, backend.subset);
    let protocol = sent_as(protocol, &policy.pool);
    let tls = match &policy.tls {
        Said::Tls(tls) => Some(tls),
        Said::Nothing | Said::None => None,
    };
    let socket = spoken::socket(tls, policy.proxy_protocol, protocol);
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
        transport_socket: match (backend.discovery, socket) {
            (Discovery::Told, Some(socket)) => Some(parts::internal_upstream_of(&[ORIGINAL_DST], socket)),
            (Discovery::Told, None) => Some(parts::internal_upstream(&[ORIGINAL_DST])),
            // None of these is in the tunnel.
            (Discovery::Names { .. } | Discovery::Dialled { .. }, socket) => socket,
        },
        ..base(name)
    };
    traffic::apply(policy, &mut cluster);
    discover(scope, backend.discovery, &mut cluster);
    if let Some(check) = &policy.health_check {
        let host = backend
            .service
            .split_once('/')
            .map_or(backend.service, |(_, host)| host);
        let message = health_check::message(check, host, protocol == Protocol::Http2);
        // Not where Envoy would read it: its checks come from its main thread, which reaches no internal listener, so that all endpoints
        // behind the tunnel would fail them.
        let metadata = cluster.metadata.get_or_insert_default();
        metadata
            .typed_filter_metadata
            .insert(CULVERT.to_owned(), pack(&message));
    }
    cluster
}

/// Writes into a cluster how its endpoints are found, where the controller does not tell them.
#[expect(
    deprecated,
    reason = "their successors name an extension of Envoy that Istio does not use either; Envoy 1.40 takes both"
)]
fn discover(scope: &str, discovery: &Discovery, cluster: &mut Cluster) {
    let (kind, mesh) = match discovery {
        Discovery::Told => return,
        Discovery::Names {
            endpoints,
            is_round_robin,
            mesh,
        } => {
            cluster.load_assignment = Some(endpoints::assignment(
                scope,
                &cluster.name,
                endpoints,
                &Preference::None,
                &Place::default(),
            ));
            cluster.dns_lookup_family = DnsLookupFamily::V4Preferred.into();
            cluster.respect_dns_ttl = true;
            cluster.dns_refresh_rate = Some(parts::duration(REFRESH));
            cluster.dns_failure_refresh_rate = Some(RefreshRate {
                base_interval: Some(parts::duration(RETRY.0)),
                max_interval: Some(parts::duration(RETRY.1)),
            });
            let kind = match is_round_robin {
                true => DiscoveryType::LogicalDns,
                false => DiscoveryType::StrictDns,
            };
            (kind, mesh)
        }
        Discovery::Dialled { mesh } => {
            cluster.lb_policy = LbPolicy::ClusterProvided.into();
            cluster.lb_config = None;
            (DiscoveryType::OriginalDst, mesh)
        }
    };
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind.into()));
    cluster.eds_cluster_config = None;
    let metadata = cluster.metadata.get_or_insert_default();
    let own = metadata.filter_metadata.entry(CULVERT.to_owned()).or_default();
    put_mesh_ranges(own, mesh.iter().map(ToString::to_string));
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

/// What requests are sent as.
fn sent_as(protocol: Protocol, pool: &Pool) -> Protocol {
    match protocol {
        Protocol::Http1 | Protocol::Http2 if pool.uses_client_protocol => Protocol::Unknown,
        Protocol::Http1 | Protocol::Unknown if pool.is_upgraded => Protocol::Http2,
        other => other,
    }
}

fn upstream(protocol: Protocol, pool: &Pool) -> HashMap<String, Any> {
    let explicit = |config| {
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(config),
        })
    };
    let http2 = || Http2ProtocolOptions {
        max_concurrent_streams: pool.streams.and_then(parts::number),
        connection_keepalive: traffic::pings(pool),
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
