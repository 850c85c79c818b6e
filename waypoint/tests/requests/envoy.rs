//! What a controller would say, in Envoy's messages.

use std::net::SocketAddr;

use culvert_envoy::{
    CULVERT,
    endpoint::About,
    pack,
    pb::{
        envoy::{
            config::{
                cluster::v3::{
                    Cluster,
                    cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig},
                },
                core::v3::{
                    Address, CidrRange, EnvoyInternalAddress, Metadata, address::Address as Kind,
                    envoy_internal_address::AddressNameSpecifier,
                },
                endpoint::v3::{
                    ClusterLoadAssignment, Endpoint as EndpointMessage, LbEndpoint, LocalityLbEndpoints,
                    lb_endpoint::HostIdentifier,
                },
                listener::v3::{Filter, FilterChain, FilterChainMatch, Listener, filter::ConfigType},
                route::v3::{
                    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, WeightedCluster, route::Action,
                    route_action::ClusterSpecifier, route_match::PathSpecifier, weighted_cluster::ClusterWeight,
                },
            },
            extensions::{
                filters::{
                    http::router::v3::Router,
                    network::{
                        http_connection_manager::v3::{
                            HttpConnectionManager, HttpFilter, Rds,
                            http_connection_manager::{RouteSpecifier, UpgradeConfig},
                            http_filter,
                        },
                        tcp_proxy::v3::{TcpProxy, tcp_proxy},
                    },
                },
                upstreams::http::v3::{
                    HttpProtocolOptions,
                    http_protocol_options::{
                        ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
                        explicit_http_config::ProtocolConfig,
                    },
                },
            },
        },
        google::protobuf::{Any, BoolValue, UInt32Value},
    },
};
use culvert_waypoint::config::cluster::Protocol;

use crate::mesh::{Endpoint, SERVICE, identity};

pub(crate) const ROUTES: &str = "shop/wp/shop/web.shop.svc.cluster.local:80";

/// A manager with these filters before the router.
pub(crate) fn manager(filters: Vec<HttpFilter>) -> HttpConnectionManager {
    let mut filters = filters;
    filters.push(http_filter("router", pack(&Router::default())));
    HttpConnectionManager {
        stat_prefix: "web".to_owned(),
        http_filters: filters,
        normalize_path: Some(BoolValue { value: true }),
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..UpgradeConfig::default()
        }],
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            route_config_name: ROUTES.to_owned(),
            ..Rds::default()
        })),
        ..HttpConnectionManager::default()
    }
}

pub(crate) fn http_filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}

pub(crate) fn chain(name: &str, at: SocketAddr, protocols: &[&str], last: Any) -> FilterChain {
    FilterChain {
        name: name.to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            destination_port: Some(UInt32Value {
                value: at.port().into(),
            }),
            prefix_ranges: vec![CidrRange {
                address_prefix: at.ip().to_string(),
                prefix_len: Some(UInt32Value { value: 32 }),
            }],
            application_protocols: protocols.iter().map(ToString::to_string).collect(),
            ..FilterChainMatch::default()
        }),
        filters: vec![Filter {
            name: "last".to_owned(),
            config_type: Some(ConfigType::TypedConfig(last)),
        }],
        ..FilterChain::default()
    }
}

pub(crate) fn listener(filter_chains: Vec<FilterChain>) -> Listener {
    Listener {
        name: "shop/wp/inbound".to_owned(),
        filter_chains,
        ..Listener::default()
    }
}

/// A listener that serves HTTP for [`SERVICE`].
pub(crate) fn http_listener(filters: Vec<HttpFilter>) -> Listener {
    let name = "shop/web.shop.svc.cluster.local:80";
    listener(vec![chain(
        name,
        SERVICE.parse().unwrap(),
        &[],
        pack(&manager(filters)),
    )])
}

pub(crate) fn tcp_proxy(cluster: &str) -> Any {
    pack(&TcpProxy {
        stat_prefix: "tcp".to_owned(),
        cluster_specifier: Some(tcp_proxy::ClusterSpecifier::Cluster(cluster.to_owned())),
        ..TcpProxy::default()
    })
}

pub(crate) fn routes(routes: Vec<Route>) -> RouteConfiguration {
    RouteConfiguration {
        name: ROUTES.to_owned(),
        virtual_hosts: vec![VirtualHost {
            name: "all".to_owned(),
            domains: vec!["*".to_owned()],
            routes,
            ..VirtualHost::default()
        }],
        ..RouteConfiguration::default()
    }
}

pub(crate) fn route(prefix: &str, clusters: &[(&str, u32)]) -> Route {
    let specifier = match clusters {
        [(cluster, _)] => ClusterSpecifier::Cluster((*cluster).to_owned()),
        several => ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: several
                .iter()
                .map(|(name, weight)| ClusterWeight {
                    name: (*name).to_owned(),
                    weight: Some(UInt32Value { value: *weight }),
                    ..ClusterWeight::default()
                })
                .collect(),
            ..WeightedCluster::default()
        }),
    };
    Route {
        name: format!("to {}", clusters[0].0),
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix(prefix.to_owned())),
            ..RouteMatch::default()
        }),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(specifier),
            ..RouteAction::default()
        })),
        ..Route::default()
    }
}

pub(crate) fn cluster(name: &str, protocol: Protocol) -> Cluster {
    let explicit = |config| {
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(config),
        })
    };
    let options = HttpProtocolOptions {
        upstream_protocol_options: Some(match protocol {
            Protocol::Http1 => explicit(ProtocolConfig::HttpProtocolOptions(Default::default())),
            Protocol::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(Default::default())),
            Protocol::Downstream => {
                UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig::default())
            }
        }),
        ..HttpProtocolOptions::default()
    };
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig::default()),
        typed_extension_protocol_options: [(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
            pack(&options),
        )]
        .into(),
        ..Cluster::default()
    }
}

pub(crate) fn endpoints(cluster: &str, endpoints: &[&Endpoint]) -> ClusterLoadAssignment {
    let one = |endpoint: &&Endpoint| tunnelled(endpoint.address, &endpoint.account);
    assignment(cluster, endpoints.iter().map(one).collect())
}

pub(crate) fn assignment(cluster: &str, lb_endpoints: Vec<LbEndpoint>) -> ClusterLoadAssignment {
    ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints,
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    }
}

pub(crate) fn tunnelled(address: SocketAddr, account: &str) -> LbEndpoint {
    let about = About {
        uid: format!("Kubernetes//Pod/shop/{account}-{address}"),
        identity: identity(account).to_string(),
        name: format!("{account}-0"),
        namespace: "shop".to_owned(),
        workload: account.to_owned(),
        canonical_name: account.to_owned(),
        ..About::default()
    };
    LbEndpoint {
        metadata: Some(Metadata {
            filter_metadata: [(CULVERT.to_owned(), about.to_metadata())].into(),
            ..Metadata::default()
        }),
        host_identifier: Some(HostIdentifier::Endpoint(EndpointMessage {
            address: Some(Address {
                address: Some(Kind::EnvoyInternalAddress(EnvoyInternalAddress {
                    endpoint_id: address.to_string(),
                    address_name_specifier: Some(AddressNameSpecifier::ServerListenerName(
                        "shop/wp/connect".to_owned(),
                    )),
                })),
            }),
            ..EndpointMessage::default()
        })),
        ..LbEndpoint::default()
    }
}
