//! From the listener `SCOPE/inbound` to filter chains, and which of them takes a connection.

use std::{
    cmp::Reverse,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use culvert_envoy::{
    pb::envoy::{
        config::listener::v3::{Filter, FilterChain, FilterChainMatch, Listener, filter::ConfigType},
        extensions::filters::network::{http_connection_manager::v3::HttpConnectionManager, tcp_proxy::v3::TcpProxy},
    },
    pb::google::protobuf::Any,
    type_url, unpack,
};
use ipnet::IpNet;
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::{Value, json};

use super::{
    filters,
    http_chain::{self, HttpChain},
    metrics::MetricOverrides,
    refusal::{Refusal, malformed, nothing_else},
    said,
    server_names::ServerNames,
    tcp_chain::{self, TcpChain},
    values::duration,
};

/// Where the listener says nothing of it: as Envoy's.
const PATIENCE: Duration = Duration::from_secs(15);

/// All filter chains, by the address and port that a client asked for.
#[derive(Debug, Default)]
pub struct Chains {
    ports: FxHashMap<SocketAddr, Port>,
    /// Ports of ranges of addresses, the narrowest range first.
    ranges: Vec<(Destination, Port)>,
    /// How long a client may take to show what it speaks, where that is to be found out; none: any time. Then it is given up: what could be
    /// HTTP must not become bytes by waiting.
    pub patience: Option<Duration>,
}

/// Chains of HTTP that were there before, by what they say.
type Known<'a> = FxHashMap<u64, &'a Arc<HttpChain>>;

/// Who takes connections to a port.
#[derive(Clone, Debug, Default)]
pub struct Port {
    /// Those of HTTP.
    pub http: Option<Arc<HttpChain>>,
    /// Those of anything else, or all of them where there is none for HTTP.
    pub tcp: Option<Arc<TcpChain>>,
    /// Those of TLS by the name that is asked for; without, TLS is as anything else. With it, TLS for which no chain is here is closed.
    pub tls: Option<ServerNames>,
}

impl Chains {
    /// Who takes a connection to `destination`.
    pub fn find(&self, destination: SocketAddr) -> Option<&Port> {
        let destination = canonical(destination);
        let in_range = || {
            let mut ranges = self.ranges.iter();
            ranges
                .find(|(range, _)| range.contains(destination))
                .map(|(_, port)| port)
        };
        self.ports.get(&destination).or_else(in_range)
    }

    /// Who takes connections to any port.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.ports.values().chain(self.ranges.iter().map(|(_, port)| port))
    }

    /// Names of the route configurations that chains refer to.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.http().map(|chain| &chain.routes)
    }

    /// Chains of HTTP, each for each address that it is for.
    fn http(&self) -> impl Iterator<Item = &Arc<HttpChain>> {
        self.ports().filter_map(|port| port.http.as_ref())
    }

    /// Of these the chains of HTTP that are not among `others`, each once, and whether some of their addresses are nobody's there.
    pub fn retired_by(&self, others: &Self) -> Vec<(Arc<HttpChain>, bool)> {
        let kept: FxHashSet<*const HttpChain> = others.http().map(Arc::as_ptr).collect();
        let single = self.ports.iter().map(|(address, port)| {
            let is_taken = others.find(*address).is_some_and(|port| port.http.is_some());
            (port, is_taken)
        });
        let ranges = self.ranges.iter().map(|(range, port)| {
            let mut same = others.ranges.iter().filter(|(other, _)| other == range);
            (port, same.any(|(_, port)| port.http.is_some()))
        });
        let mut retired: FxHashMap<*const HttpChain, (Arc<HttpChain>, bool)> = FxHashMap::default();
        for (port, is_taken) in single.chain(ranges) {
            let Some(chain) = port.http.as_ref().filter(|chain| !kept.contains(&Arc::as_ptr(chain))) else {
                continue;
            };
            let (_, is_gone) = retired
                .entry(Arc::as_ptr(chain))
                .or_insert_with(|| (Arc::clone(chain), false));
            *is_gone |= !is_taken;
        }
        retired.into_values().collect()
    }

    /// What is served, for people.
    pub fn dump(&self) -> Value {
        let port = |(address, port): (String, &Port)| {
            let chain = json!({
                "http": port.http.as_ref().map(|chain| json!({
                    "name": &*chain.name,
                    "routes": &*chain.routes,
                    "filters": chain.filters.iter().map(|filter| &*filter.name).collect::<Vec<_>>(),
                })),
                "tls": port.tls.as_ref().map(|names| {
                    names.chains().map(|chain| &*chain.name).collect::<std::collections::BTreeSet<_>>()
                }),
                "tcp": port.tcp.as_ref().map(|chain| json!({
                    "name": &*chain.name,
                    "clusters": chain.clusters.iter().map(|(name, weight)| json!([&**name, weight])).collect::<Vec<_>>(),
                })),
            });
            (address, chain)
        };
        let single = self.ports.iter().map(|(address, port)| (address.to_string(), port));
        let ranges = self.ranges.iter().map(|(range, port)| (range.to_string(), port));
        Value::Object(single.chain(ranges).map(port).collect())
    }
}

/// Reads the listener. One chain that is not served refuses all: the last good ones stay. A chain that was there `before` is the same still.
///
/// # Errors
/// Where a chain says something that is not served, with the chain's name.
pub fn read(listener: &Listener, before: &Chains) -> Result<Chains, Refusal> {
    let known = before.http().map(|chain| (chain.said, chain)).collect();
    let mut rest = listener.clone();
    let patience = match rest.listener_filters_timeout.take() {
        Some(time) => Some(duration("listener_filters_timeout", &time)?).filter(|time| !time.is_zero()),
        None => Some(PATIENCE),
    };
    let mut chains = Chains {
        patience,
        ..Chains::default()
    };
    for chain in std::mem::take(&mut rest.filter_chains) {
        let place = format!("filter chain `{}`", chain.name);
        chains.add(chain, &known).map_err(|refusal| refusal.within(&place))?;
    }
    // Where connections come from and what they ask for is known without listener filters; what they speak is found out wherever there
    // are two chains.
    chains.ranges.sort_by_key(|(range, _)| Reverse(range.net.prefix_len()));
    rest.name.clear();
    rest.listener_specifier = None;
    rest.listener_filters.clear();
    nothing_else("listener", &rest)?;
    Ok(chains)
}

impl Chains {
    fn add(&mut self, mut chain: FilterChain, known: &Known<'_>) -> Result<(), Refusal> {
        let matched = destinations(chain.filter_chain_match.take().unwrap_or_default())?;
        let addresses = &matched.addresses;
        let said = said::of(&chain);
        if let Some(same) = known.get(&said).filter(|_| !matched.is_tls) {
            return self.put(addresses, |port| port.http.replace(Arc::clone(same)).is_some());
        }
        let filters = std::mem::take(&mut chain.filters);
        let name: Arc<str> = std::mem::take(&mut chain.name).into();
        let metrics = chain.metadata.take().map(|metadata| MetricOverrides::read(&metadata));
        let metrics = metrics.transpose()?.flatten();
        nothing_else("filter chain", &chain)?;
        let Some((last, before)) = filters.split_last() else {
            return Err(Refusal::new("filters", "there is none"));
        };
        let config = config_of(last)?;
        if config.type_url == type_url::<HttpConnectionManager>() {
            if let Some(filter) = before.first() {
                return Err(Refusal::new(
                    format!("filter `{}`", filter.name),
                    "is not served before HTTP is read",
                ));
            }
            let manager = unpack::<HttpConnectionManager>(config).map_err(malformed("http_connection_manager"))?;
            if matched.is_tls {
                return Err(Refusal::new(
                    "filter_chain_match",
                    "a chain for TLS does not end in a TcpProxy",
                ));
            }
            let http = Arc::new(http_chain::read(name, said, manager, metrics)?);
            return self.put(addresses, |port| port.http.replace(Arc::clone(&http)).is_some());
        }
        if config.type_url == type_url::<TcpProxy>() {
            if matched.sniffs {
                return Err(Refusal::new(
                    "filter_chain_match.application_protocols",
                    "a chain for HTTP ends in a TcpProxy",
                ));
            }
            let proxy = unpack::<TcpProxy>(config).map_err(malformed("tcp_proxy"))?;
            let filters = before.iter().map(|filter| filters::network(config_of(filter)?));
            let tcp = Arc::new(tcp_chain::read(name, filters.collect::<Result<_, _>>()?, proxy)?);
            if matched.is_tls {
                return self.put(addresses, |port| {
                    let names = port.tls.get_or_insert_default();
                    names.add(&matched.names, &tcp).is_some()
                });
            }
            return self.put(addresses, |port| port.tcp.replace(Arc::clone(&tcp)).is_some());
        }
        Err(Refusal::new(
            format!("filter `{}`", last.name),
            format!("{} is not served here", config.type_url),
        ))
    }

    /// `put` says whether there was one already.
    fn put(&mut self, addresses: &[Destination], put: impl Fn(&mut Port) -> bool) -> Result<(), Refusal> {
        for address in addresses {
            if put(self.entry(*address)) {
                return Err(Refusal::new(
                    "filter_chain_match",
                    format!("another chain takes {address}, too"),
                ));
            }
        }
        Ok(())
    }

    fn entry(&mut self, at: Destination) -> &mut Port {
        if at.net.prefix_len() == at.net.max_prefix_len() {
            return self.ports.entry(SocketAddr::new(at.net.addr(), at.port)).or_default();
        }
        let place = self.ranges.iter().position(|(known, _)| *known == at);
        let place = place.unwrap_or_else(|| {
            self.ranges.push((at, Port::default()));
            self.ranges.len() - 1
        });
        &mut self.ranges[place].1
    }
}

fn config_of(filter: &Filter) -> Result<&Any, Refusal> {
    match &filter.config_type {
        Some(ConfigType::TypedConfig(config)) => Ok(config),
        _ => Err(Refusal::new(
            format!("filter `{}`: typed_config", filter.name),
            "is missing",
        )),
    }
}

/// What clients ask for: a port of an address, or of a range of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Destination {
    net: IpNet,
    port: u16,
}

impl Destination {
    fn contains(&self, destination: SocketAddr) -> bool {
        self.port == destination.port() && self.net.contains(&destination.ip())
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} port {}", self.net, self.port)
    }
}

/// Which connections a chain is for.
struct Matched {
    addresses: Vec<Destination>,
    /// Those of HTTP alone, where that is sniffed.
    sniffs: bool,
    /// Those of TLS alone.
    is_tls: bool,
    /// Of these, those that ask for one of these names; all if there is none.
    names: Vec<String>,
}

fn destinations(mut rules: FilterChainMatch) -> Result<Matched, Refusal> {
    let port = rules.destination_port.take().map(|port| port.value);
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|&port| port != 0);
    let port = port.ok_or_else(|| Refusal::new("filter_chain_match.destination_port", "is no port"))?;
    let mut addresses = Vec::new();
    for range in std::mem::take(&mut rules.prefix_ranges) {
        let bad = |why: &str| {
            Refusal::new(
                format!("filter_chain_match.prefix_ranges {}", range.address_prefix),
                why,
            )
        };
        let address: IpAddr = range.address_prefix.parse().map_err(|_| bad("is no IP address"))?;
        let length = range.prefix_len.as_ref().map_or(0, |length| length.value);
        let net = u8::try_from(length)
            .ok()
            .and_then(|length| IpNet::new(address, length).ok());
        let net = match net.ok_or_else(|| bad("has no length of a range"))?.trunc() {
            net if net.prefix_len() == net.max_prefix_len() => IpNet::from(net.addr().to_canonical()),
            net => net,
        };
        addresses.push(Destination { net, port });
    }
    let protocols = std::mem::take(&mut rules.application_protocols);
    if let Some(other) = protocols
        .iter()
        .find(|name| !["http/1.0", "http/1.1", "h2c"].contains(&name.as_str()))
    {
        return Err(Refusal::new(
            "filter_chain_match.application_protocols",
            format!("`{other}` is not recognised here"),
        ));
    }
    let names = std::mem::take(&mut rules.server_names);
    let is_tls = match std::mem::take(&mut rules.transport_protocol).as_str() {
        "tls" => true,
        // Where there are chains for TLS, the others are for what is none.
        "" | "raw_buffer" if names.is_empty() => false,
        "" | "raw_buffer" => {
            let why = "are for connections of TLS, and the chain is not";
            return Err(Refusal::new("filter_chain_match.server_names", why));
        }
        other => {
            let why = format!("`{other}` is not recognised here");
            return Err(Refusal::new("filter_chain_match.transport_protocol", why));
        }
    };
    nothing_else("filter_chain_match", &rules)?;
    Ok(Matched {
        addresses,
        sniffs: !protocols.is_empty(),
        is_tls,
        names,
    })
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
