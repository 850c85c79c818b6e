//! Endpoints that are dialled by their own addresses. Nobody gets to them without their waypoint, so node proxies lead such connections
//! there, too: the policies of the Service's port decide, and no route is asked.
//!
//! This is for Envoy alone. `culvert-waypoint` finds out by itself whose endpoint an address is. Its chains are beside those of Services
//! and not in a listener behind theirs: whoever closes there first, Envoy resets the client's stream with what is still on its way
//! between two internal listeners.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use culvert_envoy::names;
use culvert_envoy::pb::envoy::config::cluster::v3::Cluster;
use culvert_envoy::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy};
use culvert_envoy::pb::envoy::config::core::v3::TransportSocket;
use culvert_envoy::pb::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch};
use culvert_envoy::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route, route_action::ClusterSpecifier,
    route_match::PathSpecifier,
};
use culvert_envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use culvert_envoy::pb::envoy::extensions::filters::network::set_filter_state::v3::Config as SetFilterState;
use culvert_envoy::pb::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy, tcp_proxy::ClusterSpecifier as TcpCluster,
};
use culvert_envoy::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    UpstreamProtocolOptions, UseDownstreamHttpConfig,
};

use ipnet::IpNet;

use super::super::backend_tls::BackendTls;
use super::super::protocol::Protocol;
use super::super::traffic::{Lasting, ProxyProtocol};
use super::listener::{Chains, encrypted, lasting, taken};
use super::manager::manager;
use super::plumbing::{LOCAL_ADDRESS, filter_state, into_listener};
use super::port::Port;
use super::{access, cluster, parts, spoken, telemetry};

/// What a request is for that names no host (HTTP/1.0): one chain is for endpoints of many Services.
const HOST: &str = "pod";

/// The endpoints of a port of a Service.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    pub(crate) port: Port,
    /// The subset whose endpoints they are, where something else holds for that than for the port.
    pub(crate) subset: Option<Arc<str>>,
    /// What they are spoken to in beside the tunnel.
    pub(crate) spoken: Spoken,
    /// Whether nobody is led to them, since nobody could say here whether the client may.
    pub(crate) is_refused: bool,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// What endpoints are spoken to in beside the tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spoken {
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    pub(crate) tls: Option<BackendTls>,
}

impl Spoken {
    fn socket(&self) -> Option<TransportSocket> {
        // What is spoken inside is the client's choice, so that no protocol is said here.
        spoken::socket(self.tls.as_ref(), self.proxy_protocol, Protocol::Unknown)
    }
}

/// An endpoint of a port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    /// Whether it is reached through the tunnel.
    pub(crate) is_tunnelled: bool,
}

impl Endpoints {
    /// The way to them: through the tunnel, or not.
    fn cluster(&self, scope: &str, is_tunnelled: bool) -> String {
        let Port { service, port, .. } = &self.port;
        let is_plain = self.spoken == Spoken::default();
        let name = match (is_plain, is_tunnelled) {
            (false, true) => names::direct_tunnel_own(scope, service, *port),
            (false, false) => names::direct_clear_own(scope, service, *port),
            (true, true) => names::direct_tunnel(scope),
            (true, false) => names::direct_clear(scope),
        };
        match &self.subset {
            Some(subset) if !is_plain => format!("{name}/{subset}"),
            _ => name,
        }
    }
}

/// The ways to endpoints.
pub(crate) fn clusters(scope: &str, ports: &[Endpoints]) -> Vec<Cluster> {
    let mut made = ways(scope).to_vec();
    for of_port in ports {
        let Some(socket) = of_port.spoken.socket() else {
            continue;
        };
        let [tunnel, clear] = ways(scope);
        made.push(Cluster {
            transport_socket: Some(parts::internal_upstream_of(&[], socket.clone())),
            ..renamed(tunnel, of_port.cluster(scope, true))
        });
        made.push(Cluster {
            transport_socket: Some(socket),
            ..renamed(clear, of_port.cluster(scope, false))
        });
    }
    made
}

fn renamed(mut cluster: Cluster, name: String) -> Cluster {
    if let Some(assignment) = &mut cluster.load_assignment {
        assignment.cluster_name.clone_from(&name);
    }
    Cluster { name, ..cluster }
}

/// Those that add nothing: through the tunnel, and not.
fn ways(scope: &str) -> [Cluster; 2] {
    let options = || {
        let client = UseDownstreamHttpConfig {
            http_protocol_options: Some(Default::default()),
            http2_protocol_options: Some(Default::default()),
            ..UseDownstreamHttpConfig::default()
        };
        cluster::protocol_options(UpstreamProtocolOptions::UseDownstreamProtocolConfig(client), None)
    };
    let tunnel = Cluster {
        typed_extension_protocol_options: options(),
        ..into_listener(names::direct_tunnel(scope), names::connect(scope))
    };
    let clear = Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into())),
        lb_policy: LbPolicy::ClusterProvided.into(),
        cleanup_interval: Some(parts::duration(Duration::from_secs(60))),
        typed_extension_protocol_options: options(),
        ..cluster::base(names::direct_clear(scope))
    };
    [tunnel, clear]
}

/// The chains for the endpoints of ports, beside those of `services`: an endpoint of several ports is the first one's. What no chain is for
/// is closed.
pub(crate) fn chains(scope: &str, services: &[Port], ports: &[Endpoints]) -> Chains {
    let mut made = Chains::default();
    let encrypted = encrypted(services);
    for group in Groups::of(ports, taken(services)).0 {
        // What may be HTTP is not, if it is TLS, whatever a client offers inside.
        let kinds: &[&str] = if group.first.port.protocol == Protocol::Unknown && encrypted.contains(&group.target) {
            &["raw_buffer", "tls"]
        } else {
            &[""]
        };
        for kind in kinds {
            if group.first.port.protocol.is_http() && *kind != "tls" {
                made.chains.push(group.http(scope, kind));
            }
            if group.first.port.protocol.is_tcp() {
                made.chains.push(group.bytes(scope, kind));
            }
        }
        if group.first.port.protocol == Protocol::Unknown {
            made.sniffed.push(group.target);
        }
    }
    made
}

/// Endpoints for which the same holds, at one port number of theirs.
struct Group<'a> {
    /// Those of a port of a Service: of several ports the first.
    first: &'a Endpoints,
    target: u16,
    is_tunnelled: bool,
    addresses: Vec<IpAddr>,
}

struct Groups<'a>(Vec<Group<'a>>);

impl<'a> Groups<'a> {
    fn of(ports: &'a [Endpoints], mut taken: HashSet<(IpNet, u16)>) -> Self {
        let mut groups: Vec<Group<'a>> = Vec::new();
        // Where those are that may be the same, so that each is compared with few.
        let mut by_key: HashMap<(u16, bool, Protocol, &'a str), Vec<usize>> = HashMap::new();
        for of_port in ports {
            let port = &of_port.port;
            let policy = port.access.requests.first().or(port.access.connections.first());
            let policy = policy.map_or("", |policy| policy.name.as_str());
            for endpoint in &of_port.endpoints {
                let (address, target) = (endpoint.address.ip(), endpoint.address.port());
                if !taken.insert((IpNet::from(address), target)) {
                    continue;
                }
                if of_port.is_refused {
                    continue;
                }
                let key = (target, endpoint.is_tunnelled, port.protocol, policy);
                let known = by_key.entry(key).or_default();
                if let Some(same) = known.iter().find(|index| groups[**index].holds_for(of_port)) {
                    groups[*same].addresses.push(address);
                    continue;
                }
                known.push(groups.len());
                groups.push(Group {
                    first: of_port,
                    target,
                    is_tunnelled: endpoint.is_tunnelled,
                    addresses: vec![address],
                });
            }
        }
        Self(groups)
    }
}

impl Group<'_> {
    /// Whether the same decides about another port, of the same protocol.
    fn holds_for(&self, other: &Endpoints) -> bool {
        let (mine, port) = (&self.first.port, &other.port);
        self.first.spoken == other.spoken
            && (Arc::ptr_eq(&mine.access, &port.access) || mine.access == port.access)
            && mine.policies == port.policies
            && mine.lasting(mine.split.as_ref()) == port.lasting(port.split.as_ref())
            && (Arc::ptr_eq(&mine.telemetry, &port.telemetry) || mine.telemetry == port.telemetry)
    }

    fn http(&self, scope: &str, transport: &str) -> FilterChain {
        let name = names::direct(scope);
        let route = Route {
            name: name.clone(),
            r#match: Some(RouteMatch {
                path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
                ..RouteMatch::default()
            }),
            action: Some(route::Action::Route(RouteAction {
                cluster_specifier: Some(ClusterSpecifier::Cluster(self.cluster(scope))),
                timeout: Some(parts::duration(Duration::ZERO)),
                ..RouteAction::default()
            })),
            ..Route::default()
        };
        let routes = RouteConfiguration {
            name: name.clone(),
            virtual_hosts: vec![VirtualHost {
                name: name.clone(),
                domains: vec!["*".to_owned()],
                routes: vec![route],
                ..VirtualHost::default()
            }],
            ..RouteConfiguration::default()
        };
        let routes = RouteSpecifier::RouteConfig(routes);
        let filter = manager(scope, &self.first.port, &name, HOST, routes);
        self.chain("", transport, self.first.port.spoken(), vec![filter])
    }

    fn bytes(&self, scope: &str, transport: &str) -> FilterChain {
        let name = names::direct(scope);
        let proxy = TcpProxy {
            stat_prefix: name.clone(),
            cluster_specifier: Some(TcpCluster::Cluster(self.cluster(scope))),
            access_log: telemetry::logs(&self.first.port.telemetry),
            ..lasting(self.lasting())
        };
        let mut filters = access::of_connections(&self.first.port.access.connections, &name);
        filters.push(parts::filter("envoy.filters.network.tcp_proxy", &proxy));
        self.chain(" tcp", transport, Vec::new(), filters)
    }

    /// That of the Service's own chain, as `culvert-waypoint` has it.
    fn lasting(&self) -> Lasting {
        let port = &self.first.port;
        port.lasting(port.split.as_ref())
    }

    fn cluster(&self, scope: &str) -> String {
        self.first.cluster(scope, self.is_tunnelled)
    }

    fn chain(&self, kind: &str, transport: &str, spoken: Vec<String>, filters: Vec<Filter>) -> FilterChain {
        let tls = if transport == "tls" { " tls" } else { "" };
        let way = if self.is_tunnelled { "" } else { " clear" };
        let first = names::chain(&self.first.port.service, self.first.port.port);
        let mut addresses = self.addresses.clone();
        addresses.sort_unstable();
        FilterChain {
            name: format!("{first} at {}{way}{kind}{tls}", self.target),
            filter_chain_match: Some(FilterChainMatch {
                destination_port: parts::number(self.target.into()),
                prefix_ranges: addresses
                    .into_iter()
                    .map(|address| parts::range(address.into()))
                    .collect(),
                transport_protocol: transport.to_owned(),
                application_protocols: spoken,
                ..FilterChainMatch::default()
            }),
            filters: std::iter::once(passed_on()).chain(filters).collect(),
            ..FilterChain::default()
        }
    }
}

/// Hands the destination on to the internal listener that opens the tunnel: what was shared with this one stays here.
fn passed_on() -> Filter {
    let config = SetFilterState {
        on_new_connection: vec![filter_state(
            LOCAL_ADDRESS,
            "",
            &format!("%FILTER_STATE({LOCAL_ADDRESS}:PLAIN)%"),
        )],
        ..SetFilterState::default()
    };
    parts::filter("envoy.filters.network.set_filter_state", &config)
}
