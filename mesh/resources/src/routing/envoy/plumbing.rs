//! What Envoy needs to speak HBONE. `culvert-waypoint` has the same of its own.
//!
//! In: a listener on the tunnel port ends TLS and `CONNECT`. It notes where the tunnel goes and who has opened it in the filter state of
//! the connection, which goes along into the listener behind it. Out: an endpoint is an address of an internal listener, which opens
//! `CONNECT` to the endpoint's address, at the tunnel port of the same address.

use std::net::Ipv4Addr;
use std::time::Duration;

use culvert_envoy::pb::envoy::config::cluster::v3::Cluster;
use culvert_envoy::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, LbConfig, LbPolicy, OriginalDstLbConfig,
};
use culvert_envoy::pb::envoy::config::core::v3::{
    DataSource, Http2ProtocolOptions, SubstitutionFormatString, data_source, substitution_format_string,
};
use culvert_envoy::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};
use culvert_envoy::pb::envoy::config::listener::v3::listener::{InternalListenerConfig, ListenerSpecifier};
use culvert_envoy::pb::envoy::config::listener::v3::{FilterChain, Listener};
use culvert_envoy::pb::envoy::config::route::v3::route_action::upgrade_config::ConnectConfig;
use culvert_envoy::pb::envoy::config::route::v3::route_action::{ClusterSpecifier, UpgradeConfig};
use culvert_envoy::pb::envoy::config::route::v3::route_match::{ConnectMatcher, PathSpecifier};
use culvert_envoy::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route,
};
use culvert_envoy::pb::envoy::extensions::filters::common::set_filter_state::v3::FilterStateValue;
use culvert_envoy::pb::envoy::extensions::filters::common::set_filter_state::v3::filter_state_value::{
    Key, SharedWithUpstream, Value,
};
use culvert_envoy::pb::envoy::extensions::filters::http::router::v3::Router;
use culvert_envoy::pb::envoy::extensions::filters::http::set_filter_state::v3::Config as SetFilterState;
use culvert_envoy::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use culvert_envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager,
    http_connection_manager::{RouteSpecifier, UpgradeConfig as Upgrade},
};
use culvert_envoy::pb::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy, tcp_proxy::ClusterSpecifier as TcpCluster, tcp_proxy::TunnelingConfig,
};
use culvert_envoy::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use culvert_envoy::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, SubjectAltNameMatcher,
    TlsParameters, UpstreamTlsContext, subject_alt_name_matcher::SanType, tls_parameters::TlsProtocol,
};
use culvert_envoy::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
};
use culvert_envoy::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use culvert_envoy::{PEER_PRINCIPAL, names};

use super::cluster;
use super::parts::{self, http_filter, listener_filter};

/// The tunnel's port.
const HBONE: u16 = 15008;
/// Envoy's own names for where a connection on an internal listener was going, and who has opened it.
pub(super) const LOCAL_ADDRESS: &str = "envoy.filters.listener.original_dst.local_ip";
const REMOTE_ADDRESS: &str = "envoy.filters.listener.original_dst.remote_ip";

/// The listener on the tunnel port of the waypoint `scope`, whose peers are those of `trust_domain`.
pub(crate) fn tunnel(scope: &str, trust_domain: &str) -> Listener {
    let connect = RouteConfiguration {
        name: names::tunnel(scope),
        virtual_hosts: vec![VirtualHost {
            name: "connect".to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![connect_route(scope)],
            ..VirtualHost::default()
        }],
        ..RouteConfiguration::default()
    };
    let state = SetFilterState {
        on_request_headers: vec![
            filter_state(LOCAL_ADDRESS, "", "%REQ(:AUTHORITY)%"),
            filter_state(REMOTE_ADDRESS, "", "%DOWNSTREAM_REMOTE_ADDRESS%"),
            filter_state(PEER_PRINCIPAL, "envoy.string", "%DOWNSTREAM_PEER_URI_SAN%"),
        ],
        ..SetFilterState::default()
    };
    let manager = HttpConnectionManager {
        stat_prefix: names::tunnel(scope),
        route_specifier: Some(RouteSpecifier::RouteConfig(connect)),
        http_filters: vec![
            http_filter("envoy.filters.http.set_filter_state", &state),
            http_filter("envoy.filters.http.router", &Router::default()),
        ],
        http2_protocol_options: Some(Http2ProtocolOptions {
            allow_connect: true,
            ..Http2ProtocolOptions::default()
        }),
        stream_idle_timeout: Some(parts::duration(Duration::ZERO)),
        upgrade_configs: vec![Upgrade {
            upgrade_type: "CONNECT".to_owned(),
            ..Upgrade::default()
        }],
        ..HttpConnectionManager::default()
    };
    let tls = DownstreamTlsContext {
        common_tls_context: Some(tls(trust_domain)),
        require_client_certificate: parts::flag(true),
        ..DownstreamTlsContext::default()
    };
    Listener {
        name: names::tunnel(scope),
        address: Some(parts::socket(Ipv4Addr::UNSPECIFIED, HBONE)),
        filter_chains: vec![FilterChain {
            name: names::tunnel(scope),
            filters: vec![parts::filter("envoy.filters.network.http_connection_manager", &manager)],
            transport_socket: Some(parts::transport("envoy.transport_sockets.tls", &tls)),
            ..FilterChain::default()
        }],
        ..Listener::default()
    }
}

fn connect_route(scope: &str) -> Route {
    Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::ConnectMatcher(ConnectMatcher {})),
            ..RouteMatch::default()
        }),
        action: Some(route::Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(names::inbound(scope))),
            timeout: Some(parts::duration(Duration::ZERO)),
            upgrade_configs: vec![UpgradeConfig {
                upgrade_type: "CONNECT".to_owned(),
                connect_config: Some(ConnectConfig::default()),
                ..UpgradeConfig::default()
            }],
            ..RouteAction::default()
        })),
        ..Route::default()
    }
}

/// What goes along into the listener behind.
pub(super) fn filter_state(key: &str, factory: &str, value: &str) -> FilterStateValue {
    FilterStateValue {
        key: Some(Key::ObjectKey(key.to_owned())),
        factory_key: factory.to_owned(),
        value: Some(Value::FormatString(SubstitutionFormatString {
            format: Some(substitution_format_string::Format::TextFormatSource(DataSource {
                specifier: Some(data_source::Specifier::InlineString(value.to_owned())),
                ..DataSource::default()
            })),
            ..SubstitutionFormatString::default()
        })),
        shared_with_upstream: SharedWithUpstream::Once.into(),
        ..FilterStateValue::default()
    }
}

/// The internal listener that opens `CONNECT` to an endpoint.
pub(crate) fn connect(scope: &str) -> Listener {
    let proxy = TcpProxy {
        stat_prefix: names::connect(scope),
        cluster_specifier: Some(TcpCluster::Cluster(names::originate(scope))),
        tunneling_config: Some(TunnelingConfig {
            hostname: "%DOWNSTREAM_LOCAL_ADDRESS%".to_owned(),
            ..TunnelingConfig::default()
        }),
        ..TcpProxy::default()
    };
    Listener {
        name: names::connect(scope),
        listener_specifier: Some(ListenerSpecifier::InternalListener(InternalListenerConfig {})),
        listener_filters: vec![listener_filter(
            "envoy.filters.listener.original_dst",
            &OriginalDst::default(),
        )],
        filter_chains: vec![FilterChain {
            name: names::connect(scope),
            filters: vec![parts::filter("envoy.filters.network.tcp_proxy", &proxy)],
            ..FilterChain::default()
        }],
        ..Listener::default()
    }
}

/// The way into the listener with the Services' ports.
pub(crate) fn inbound(scope: &str) -> Cluster {
    let name = names::inbound(scope);
    into_listener(name.clone(), name)
}

/// A cluster that leads into an internal listener.
pub(super) fn into_listener(name: String, listener: String) -> Cluster {
    Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.clone(),
            endpoints: vec![LocalityLbEndpoints {
                lb_endpoints: vec![LbEndpoint {
                    host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(Endpoint {
                        address: Some(parts::internal(listener, String::new())),
                        ..Endpoint::default()
                    })),
                    ..LbEndpoint::default()
                }],
                ..LocalityLbEndpoints::default()
            }],
            ..ClusterLoadAssignment::default()
        }),
        transport_socket: Some(parts::internal_upstream(&[])),
        ..cluster::base(name)
    }
}

/// What one stream of a tunnel to an endpoint may have under way.
const STREAM_WINDOW: u32 = 256 << 10;

/// The way to the tunnel ports of endpoints.
pub(crate) fn originate(scope: &str, trust_domain: &str) -> Cluster {
    let tls = UpstreamTlsContext {
        common_tls_context: Some(tls(trust_domain)),
        ..UpstreamTlsContext::default()
    };
    let http2 = Http2ProtocolOptions {
        allow_connect: true,
        // All requests to an endpoint share its tunnel: by Envoy's default two whose clients read nothing would fill the connection's window
        // of 24 MiB, and nobody else would get an answer.
        initial_stream_window_size: parts::number(STREAM_WINDOW),
        ..Http2ProtocolOptions::default()
    };
    let options = UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
        protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(http2)),
    });
    Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into())),
        lb_policy: LbPolicy::ClusterProvided.into(),
        lb_config: Some(LbConfig::OriginalDstLbConfig(OriginalDstLbConfig {
            upstream_port_override: parts::number(HBONE.into()),
            ..OriginalDstLbConfig::default()
        })),
        cleanup_interval: Some(parts::duration(Duration::from_secs(60))),
        typed_extension_protocol_options: cluster::protocol_options(options, None),
        transport_socket: Some(parts::transport("envoy.transport_sockets.tls", &tls)),
        ..cluster::base(names::originate(scope))
    }
}

/// Mutual TLS 1.3 between workloads of the trust domain.
fn tls(trust_domain: &str) -> CommonTlsContext {
    let secret = |name: &str| SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(parts::ads()),
    };
    let peers = SubjectAltNameMatcher {
        san_type: SanType::Uri.into(),
        matcher: Some(parts::text(MatchPattern::Prefix(format!("spiffe://{trust_domain}/")))),
        ..SubjectAltNameMatcher::default()
    };
    let default = CertificateValidationContext {
        match_typed_subject_alt_names: vec![peers],
        ..CertificateValidationContext::default()
    };
    CommonTlsContext {
        tls_params: Some(TlsParameters {
            tls_minimum_protocol_version: TlsProtocol::TlSv13.into(),
            tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
            ..TlsParameters::default()
        }),
        tls_certificate_sds_secret_configs: vec![secret("default")],
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(
            CombinedCertificateValidationContext {
                default_validation_context: Some(default),
                validation_context_sds_secret_config: Some(secret("ROOTCA")),
                ..CombinedCertificateValidationContext::default()
            },
        )),
        alpn_protocols: vec!["h2".to_owned()],
        ..CommonTlsContext::default()
    }
}
