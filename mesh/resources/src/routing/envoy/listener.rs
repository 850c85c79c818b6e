//! All ports that a waypoint is for: the listener behind the tunnel.

use std::collections::HashSet;

use culvert_envoy::names;
use culvert_envoy::pb::envoy::config::listener::v3::listener::{InternalListenerConfig, ListenerSpecifier};
use culvert_envoy::pb::envoy::config::listener::v3::listener_filter_chain_match_predicate::{MatchSet, Rule};
use culvert_envoy::pb::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, ListenerFilterChainMatchPredicate,
};
use culvert_envoy::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use culvert_envoy::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use culvert_envoy::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use culvert_envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    Rds, http_connection_manager::RouteSpecifier,
};
use culvert_envoy::pb::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy, tcp_proxy::ClusterSpecifier, tcp_proxy::WeightedCluster, tcp_proxy::weighted_cluster::ClusterWeight,
};
use culvert_envoy::pb::envoy::r#type::v3::Int32Range;
use ipnet::IpNet;

use super::super::model::{Backend, Named, Split};
use super::super::protocol::Protocol;
use super::super::traffic::Lasting;
use super::manager::manager;
use super::parts::{self, cluster_name, listener_filter};
use super::port::Port;
use super::{access, telemetry};

/// The listener behind the tunnel; none where there is nothing to listen for. An address and port that two Services have is the first's.
/// For Envoy, the endpoints that are dialled by their own addresses come after them.
pub(crate) fn inbound(scope: &str, ports: &[Port], of_endpoints: Chains) -> Option<Listener> {
    let mut taken = HashSet::new();
    let mut chains = Vec::new();
    let mut sniffed = Vec::new();
    let encrypted = encrypted(ports);
    for port in ports {
        let addresses: Vec<IpNet> = port
            .addresses
            .iter()
            .copied()
            .filter(|address| taken.insert((*address, port.port)))
            .collect();
        if addresses.is_empty() {
            continue;
        }
        let port = &port.among(&encrypted);
        if port.protocol.is_http() {
            chains.push(http_chain(scope, port, &addresses));
        }
        if port.is_named() {
            chains.extend(named_chains(scope, port, &addresses));
        }
        if port.protocol.is_tcp() && (port.split.is_some() || !port.is_named()) {
            chains.push(tcp_chain(scope, port, &addresses));
        }
        if port.protocol == Protocol::Unknown && !sniffed.contains(&port.port) {
            sniffed.push(port.port);
        }
    }
    if chains.is_empty() {
        return None;
    }
    chains.extend(of_endpoints.chains);
    sniffed.extend(of_endpoints.sniffed);
    let mut filters = vec![listener_filter(
        "envoy.filters.listener.original_dst",
        &OriginalDst::default(),
    )];
    sniffed.sort_unstable();
    sniffed.dedup();
    if !encrypted.is_empty() {
        filters.push(ListenerFilter {
            filter_disabled: Some(all_but(&encrypted)),
            ..listener_filter("envoy.filters.listener.tls_inspector", &TlsInspector::default())
        });
    }
    if !sniffed.is_empty() {
        filters.push(ListenerFilter {
            filter_disabled: Some(all_but(&sniffed)),
            ..listener_filter("envoy.filters.listener.http_inspector", &HttpInspector::default())
        });
    }
    Some(Listener {
        name: names::inbound(scope),
        listener_specifier: Some(ListenerSpecifier::InternalListener(InternalListenerConfig {})),
        listener_filters: filters,
        // However long a client waits before it speaks: what is HTTP must not become bytes by waiting.
        listener_filters_timeout: Some(parts::duration(std::time::Duration::ZERO)),
        filter_chains: chains,
        ..Listener::default()
    })
}

/// Chains beside those of Services.
#[derive(Debug, Default)]
pub(crate) struct Chains {
    pub(super) chains: Vec<FilterChain>,
    /// Port numbers at which it shows what is spoken when the client begins to speak.
    pub(super) sniffed: Vec<u16>,
}

/// The addresses and ports that are those of Services.
pub(super) fn taken(ports: &[Port]) -> HashSet<(IpNet, u16)> {
    let each = ports
        .iter()
        .flat_map(|port| port.addresses.iter().map(|address| (*address, port.port)));
    each.collect()
}

/// The port numbers at which connections are looked at for TLS, in order.
pub(super) fn encrypted(ports: &[Port]) -> Vec<u16> {
    let named = ports.iter().filter(|port| port.is_named());
    let mut numbers: Vec<u16> = named.map(|port| port.port).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

fn http_chain(scope: &str, port: &Port, addresses: &[IpNet]) -> FilterChain {
    let name = names::chain(&port.service, port.port);
    let routes = RouteSpecifier::Rds(Rds {
        config_source: Some(parts::ads()),
        route_config_name: names::routes(scope, &port.service, port.port),
    });
    let filter = manager(scope, port, &name, host(&port.service), routes);
    let matched = FilterChainMatch {
        application_protocols: port.spoken(),
        ..port.unencrypted()
    };
    FilterChain {
        metadata: telemetry::metrics(&port.telemetry),
        ..chain(name, port, addresses, matched, vec![filter])
    }
}

/// A chain for each rule about TLS. What no rule names goes where connections that are not TLS go, if somebody says where that is.
fn named_chains(scope: &str, port: &Port, addresses: &[IpNet]) -> Vec<FilterChain> {
    let rest = port.split.as_ref().map(|split| Named {
        names: vec!["*".to_owned()],
        split: split.clone(),
    });
    let mut taken = HashSet::new();
    let mut chains = Vec::new();
    for rule in port.named.iter().chain(&rest) {
        let names: Vec<String> = rule
            .names
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .filter(|name| taken.insert(name.clone()))
            .collect();
        let (all, names): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| name == "*");
        for names in [names, all].into_iter().filter(|names| !names.is_empty()) {
            let name = names::sni_chain(&port.service, port.port, &names[0]);
            let matched = FilterChainMatch {
                server_names: names.into_iter().filter(|name| name != "*").collect(),
                transport_protocol: "tls".to_owned(),
                ..FilterChainMatch::default()
            };
            chains.push(bytes(scope, port, addresses, name, Some(&rule.split), matched));
        }
    }
    chains
}

/// The host of a Service, out of its resource name.
fn host(service: &str) -> &str {
    service.split_once('/').map_or(service, |(_, host)| host)
}

fn tcp_chain(scope: &str, port: &Port, addresses: &[IpNet]) -> FilterChain {
    let name = match port.protocol {
        Protocol::Unknown => names::tcp_chain(&port.service, port.port),
        _ => names::chain(&port.service, port.port),
    };
    bytes(scope, port, addresses, name, port.split.as_ref(), port.unencrypted())
}

/// A chain that copies bytes, to the Service itself where nobody says where to.
fn bytes(
    scope: &str,
    port: &Port,
    addresses: &[IpNet],
    name: String,
    split: Option<&Split>,
    matched: FilterChainMatch,
) -> FilterChain {
    let own = port.own();
    let cluster = |backend: Option<&Backend>| ClusterSpecifier::Cluster(cluster_name(scope, backend));
    let specifier = match split.map(Vec::as_slice) {
        None => cluster(Some(&own)),
        Some([]) => cluster(None),
        Some([one]) => cluster(one.backend.as_ref()),
        Some(targets) => ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: targets
                .iter()
                .map(|target| ClusterWeight {
                    name: cluster_name(scope, target.backend.as_ref()),
                    weight: target.weight,
                    ..ClusterWeight::default()
                })
                .collect(),
        }),
    };
    let proxy = TcpProxy {
        stat_prefix: name.clone(),
        cluster_specifier: Some(specifier),
        access_log: telemetry::logs(&port.telemetry),
        ..lasting(port.lasting(split))
    };
    let mut filters = access::of_connections(&port.access.connections, &name);
    filters.push(parts::filter("envoy.filters.network.tcp_proxy", &proxy));
    chain(name, port, addresses, matched, filters)
}

/// A proxy of bytes that says for how long connections last, and nothing else.
pub(super) fn lasting(lasting: Lasting) -> TcpProxy {
    TcpProxy {
        idle_timeout: lasting.idle_timeout.map(parts::duration),
        max_downstream_connection_duration: lasting.age.map(parts::at_least_a_millisecond),
        ..TcpProxy::default()
    }
}

/// A chain of a port, for what else `matched` says.
fn chain(
    name: String,
    port: &Port,
    addresses: &[IpNet],
    matched: FilterChainMatch,
    filters: Vec<Filter>,
) -> FilterChain {
    FilterChain {
        name,
        filter_chain_match: Some(FilterChainMatch {
            destination_port: parts::number(port.port.into()),
            prefix_ranges: addresses.iter().copied().map(parts::range).collect(),
            ..matched
        }),
        filters,
        ..FilterChain::default()
    }
}

/// All ports but these, at which nobody waits for the client: the server may speak first.
fn all_but(ports: &[u16]) -> ListenerFilterChainMatchPredicate {
    let rule = |rule| ListenerFilterChainMatchPredicate { rule: Some(rule) };
    let one = |port: &u16| {
        let start = i32::from(*port);
        rule(Rule::DestinationPortRange(Int32Range { start, end: start + 1 }))
    };
    let any = match ports {
        [port] => one(port),
        ports => rule(Rule::OrMatch(MatchSet {
            rules: ports.iter().map(one).collect(),
        })),
    };
    rule(Rule::NotMatch(Box::new(any)))
}
