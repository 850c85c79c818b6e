//! From a Cluster to what is served of it.

use std::{sync::Arc, time::Duration};

use culvert_envoy::{
    pb::envoy::{
        config::cluster::v3::{
            CircuitBreakers, Cluster as Message, circuit_breakers::Thresholds,
            cluster::common_lb_config::LocalityConfigSpecifier,
        },
        config::core::v3::Http2ProtocolOptions,
        extensions::upstreams::http::v3::{
            HttpProtocolOptions,
            http_protocol_options::{UpstreamProtocolOptions, explicit_http_config::ProtocolConfig},
        },
    },
    unpack,
};

use culvert_http::{balance::outlier, retry::RetryBudget};

use super::{
    balancing::{self, Balancing},
    discovery::{self, Discovery, Named},
    health_check::{self, HealthCheck},
    keepalive::{self, Keepalive, Pings},
    refusal::{Refusal, compiled, malformed, nothing_else},
    said,
    transport::{self, ProxyProtocol},
    values::{duration, value},
};
use crate::endpoint_tls::EndpointTls;

/// Under this name clusters have their HTTP options.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// How long a connection may take to be made where nothing is said: Envoy's default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection without a request is kept where nothing is said: Envoy's default.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// What is served of a cluster, without its endpoints.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Its name.
    pub name: Arc<str>,
    /// By this two are known to say the same.
    pub said: u64,
    /// How its endpoints are found.
    pub discovery: Discovery,
    /// How an endpoint is chosen.
    pub balancing: Balancing,
    /// The share of healthy endpoints, in percent, below which health counts for nothing.
    pub panic_threshold: u32,
    /// What requests are sent as.
    pub protocol: Protocol,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a connection without a request is kept.
    pub idle_timeout: Option<Duration>,
    /// How long a connection is used, whatever is under way on it; none: any time.
    pub connection_age: Option<Duration>,
    /// How many requests a connection takes; none: any number.
    pub requests_per_connection: Option<u32>,
    /// How many requests share a connection at once, where the endpoint allows as many; none: what the endpoint allows.
    pub streams: Option<u32>,
    /// How connections of HTTP/2 are tried, whether they have requests or not.
    pub pings: Option<Pings>,
    /// How connections in clear are kept alive; those through the tunnel are by the tunnel.
    pub keepalive: Option<Keepalive>,
    /// How long a whole exchange may take; none: any time.
    pub max_stream_duration: Option<Duration>,
    /// What is too much.
    pub breakers: Breakers,
    /// The head that endpoints want to see first.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// TLS that endpoints speak themselves, behind that.
    pub tls: Option<Arc<EndpointTls>>,
    /// How endpoints are asked whether they serve.
    pub health_check: Option<HealthCheck>,
    /// When an endpoint that fails is left out.
    pub outlier: Option<outlier::Settings>,
}

impl ClusterConfig {
    /// The name of the endpoints that the controller tells, if it does.
    pub fn told(&self) -> Option<&Arc<str>> {
        match &self.discovery {
            Discovery::Told(name) => Some(name),
            Discovery::Named(_) | Discovery::Dialled(_) => None,
        }
    }

    /// Whether connections that are made for one are good for the other, as far as goes what is spoken at their beginning.
    pub fn is_spoken_to_like(&self, other: &Self) -> bool {
        let is_same_tls = match (&self.tls, &other.tls) {
            (None, None) => true,
            (Some(one), Some(other)) => one.is_same(other),
            _ => false,
        };
        is_same_tls && self.proxy_protocol == other.proxy_protocol
    }

    /// Its endpoints, if some of them are names.
    pub fn named(&self) -> Option<&Named> {
        match &self.discovery {
            Discovery::Named(named) => Some(named),
            Discovery::Told(_) | Discovery::Dialled(_) => None,
        }
    }
}

/// What requests are sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// As the client's.
    Downstream,
}

/// Bounds of a cluster's load, for all threads together.
#[derive(Clone, Copy, Debug)]
pub struct Breakers {
    /// Open connections.
    pub connections: u32,
    /// Requests that wait for a connection.
    pub pending: u32,
    /// Requests that are under way.
    pub requests: u32,
    /// Retries that are under way.
    pub retries: RetryBudget,
}

impl Default for Breakers {
    /// Envoy's defaults.
    fn default() -> Self {
        Self {
            connections: 1024,
            pending: 1024,
            requests: 1024,
            retries: RetryBudget::Count(3),
        }
    }
}

/// Reads a cluster.
///
/// # Errors
/// Where it says something that is not served.
pub fn read(message: &Message) -> Result<ClusterConfig, Refusal> {
    let mut rest = message.clone();
    let name: Arc<str> = std::mem::take(&mut rest.name).into();
    let discovery = discovery::take(&name, &mut rest)?;
    let connect_timeout = rest.connect_timeout.take();
    let connect_timeout = connect_timeout.map_or(Ok(CONNECT_TIMEOUT), |time| duration("connect_timeout", &time))?;
    let is_dialled = matches!(discovery, Discovery::Dialled(_));
    let mut balancing = balancing::take(&mut rest)?;
    let mut common = rest.common_lb_config.take().unwrap_or_default();
    let panic = common
        .healthy_panic_threshold
        .take()
        .map_or(50.0, |percent| percent.value);
    if !(0.0..=100.0).contains(&panic) {
        return Err(Refusal::new(
            "healthy_panic_threshold",
            format!("{panic} is no percentage"),
        ));
    }
    let panic_threshold = panic as u32;
    match common.locality_config_specifier.take() {
        None => {}
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => balancing.is_by_locality = true,
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(_)) => {
            return Err(Refusal::new(
                "common_lb_config.zone_aware_lb_config",
                "is not served here",
            ));
        }
    }
    nothing_else("common_lb_config", &common)?;
    let http = Http::read(&mut rest)?;
    let breakers = breakers(rest.circuit_breakers.take())?;
    let spoken = transport::read(rest.transport_socket.take())?;
    let config = ClusterConfig {
        said: said::of_cluster(message),
        discovery,
        name,
        balancing,
        panic_threshold,
        protocol: http.protocol,
        connect_timeout,
        idle_timeout: http.idle_timeout,
        connection_age: http.connection_age,
        requests_per_connection: http.requests_per_connection,
        streams: http.streams,
        pings: http.pings,
        keepalive: keepalive::of_sockets(rest.upstream_connection_options.take())?,
        max_stream_duration: http.max_stream_duration,
        breakers,
        proxy_protocol: spoken.proxy_protocol,
        tls: spoken.tls,
        health_check: health_check::read(rest.metadata.as_ref())?,
        outlier: rest
            .outlier_detection
            .take()
            // Who dials an endpoint gets that one, however it does.
            .filter(|_| !is_dialled)
            .map(|message| outlier::Settings::compile(&message).map_err(compiled("outlier_detection")))
            .transpose()?,
    };
    // What only names things for Envoy's statistics.
    rest.metadata = None;
    rest.alt_stat_name.clear();
    rest.per_connection_buffer_limit_bytes = None;
    rest.ignore_health_on_host_removal = false;
    nothing_else("cluster", &rest)?;
    Ok(config)
}

/// What the HTTP options say.
struct Http {
    protocol: Protocol,
    idle_timeout: Option<Duration>,
    connection_age: Option<Duration>,
    requests_per_connection: Option<u32>,
    streams: Option<u32>,
    pings: Option<Pings>,
    max_stream_duration: Option<Duration>,
}

impl Http {
    fn read(cluster: &mut Message) -> Result<Self, Refusal> {
        let options = cluster.typed_extension_protocol_options.remove(HTTP_OPTIONS);
        let options = options.map(|any| unpack::<HttpProtocolOptions>(&any)).transpose();
        let mut options = options.map_err(malformed(HTTP_OPTIONS))?.unwrap_or_default();
        let mut http2: Option<Http2ProtocolOptions> = None;
        let protocol = match options.upstream_protocol_options.take() {
            None => Protocol::Http1,
            Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(both)) => {
                http2 = both.http2_protocol_options;
                Protocol::Downstream
            }
            Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => match explicit.protocol_config {
                None | Some(ProtocolConfig::HttpProtocolOptions(_)) => Protocol::Http1,
                Some(ProtocolConfig::Http2ProtocolOptions(options)) => {
                    http2 = Some(options);
                    Protocol::Http2
                }
                Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                    return Err(Refusal::new(HTTP_OPTIONS, "HTTP/3 is not served here"));
                }
            },
            Some(UpstreamProtocolOptions::AutoConfig(_)) => {
                return Err(Refusal::new(
                    format!("{HTTP_OPTIONS}: auto_config"),
                    "is not served here",
                ));
            }
        };
        let mut common = options.common_http_protocol_options.take().unwrap_or_default();
        let idle_timeout = match common.idle_timeout.take() {
            None => Some(IDLE_TIMEOUT),
            Some(time) => Some(duration("idle_timeout", &time)?).filter(|time| !time.is_zero()),
        };
        let max_stream_duration = common.max_stream_duration.take();
        let max_stream_duration = max_stream_duration.map(|time| duration("max_stream_duration", &time));
        let connection_age = common.max_connection_duration.take();
        let connection_age = connection_age.map(|time| duration("max_connection_duration", &time));
        let mut http2 = http2.unwrap_or_default();
        let streams = value(http2.max_concurrent_streams.take());
        let pings = http2
            .connection_keepalive
            .take()
            .map(keepalive::pings)
            .transpose()?
            .flatten();
        nothing_else("http2_protocol_options", &http2)?;
        let requests = value(common.max_requests_per_connection.take()).filter(|&requests| requests > 0);
        nothing_else("common_http_protocol_options", &common)?;
        nothing_else(HTTP_OPTIONS, &options)?;
        Ok(Self {
            protocol,
            idle_timeout,
            connection_age: connection_age.transpose()?.filter(|time| !time.is_zero()),
            requests_per_connection: requests,
            streams,
            pings,
            max_stream_duration: max_stream_duration.transpose()?.filter(|time| !time.is_zero()),
        })
    }
}

fn breakers(message: Option<CircuitBreakers>) -> Result<Breakers, Refusal> {
    let defaults = Breakers::default();
    let mut message = message.unwrap_or_default();
    let mut thresholds: Vec<Thresholds> = std::mem::take(&mut message.thresholds);
    nothing_else("circuit_breakers", &message)?;
    // Those of the priority `HIGH` are for routes that ask for it, which no route here can.
    thresholds.retain(|thresholds| thresholds.priority == 0);
    let Some(mut all) = thresholds.into_iter().next() else {
        return Ok(defaults);
    };
    all.track_remaining = false;
    let read = Breakers {
        connections: value(all.max_connections.take()).unwrap_or(defaults.connections),
        pending: value(all.max_pending_requests.take()).unwrap_or(defaults.pending),
        requests: value(all.max_requests.take()).unwrap_or(defaults.requests),
        retries: match all.retry_budget.take() {
            Some(budget) => {
                RetryBudget::compile(&budget).map_err(compiled("circuit_breakers.thresholds.retry_budget"))?
            }
            None => value(all.max_retries.take()).map_or(defaults.retries, RetryBudget::Count),
        },
    };
    all.max_retries = None;
    nothing_else("circuit_breakers.thresholds", &all)?;
    Ok(read)
}
