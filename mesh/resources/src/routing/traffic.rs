//! What holds for connections to a host, in our own words: a DestinationRule's policy of traffic.

use std::time::Duration;

use serde::Deserialize;

use super::backend_tls::Said;
use super::locality::Preference;
use super::model::HashBy;
use super::policy::HealthCheck;

/// What holds for connections to a port.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Traffic {
    pub(crate) balancer: Balancer,
    /// How new endpoints begin, where the balancer knows of that.
    pub(crate) warmup: Option<Warmup>,
    /// Whether endpoints that take long to answer count as busy.
    pub(crate) is_peak_ewma: bool,
    pub(crate) retry_budget: Option<RetryBudget>,
    /// By what of a request an endpoint is chosen, where the balancer goes by hashes.
    pub(crate) hash: Option<HashBy>,
    /// Which endpoints come first; none where nobody says, so that the Service may.
    pub(crate) near: Option<Preference>,
    pub(crate) pool: Pool,
    pub(crate) outlier: Option<Outlier>,
    /// TLS that endpoints speak themselves.
    pub(crate) tls: Said,
    /// The head of the PROXY protocol that endpoints want to see first.
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    /// How endpoints are asked whether they serve.
    pub(crate) health_check: Option<HealthCheck>,
    /// Whether connections would go in another way than asked for: then there is no endpoint.
    pub(crate) is_refused: bool,
}

/// Which endpoint is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Balancer {
    /// The one with fewer requests under way, of two.
    #[default]
    LeastRequest,
    RoundRobin,
    Random,
    /// By hash, on a ring with so many points at least.
    Ring(u64),
    /// By hash, in a table of this size.
    Maglev(Option<u64>),
}

/// A version of the PROXY protocol: a head at the beginning of a connection says whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum ProxyProtocol {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// How new endpoints begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Warmup {
    pub(crate) window: Duration,
    /// In percent of the weight.
    pub(crate) least: f64,
    /// 1 grows evenly.
    pub(crate) aggression: f64,
}

/// How many of the requests may be retries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RetryBudget {
    pub(crate) percent: f64,
    /// So many are always allowed.
    pub(crate) least: u32,
}

/// How a silent connection is probed; the kernel decides what is not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keepalive {
    pub(crate) time: Option<Duration>,
    pub(crate) interval: Option<Duration>,
    pub(crate) probes: Option<u32>,
}

/// How a connection of HTTP/2 is tried, whether it has requests or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pings {
    pub(crate) interval: Duration,
    /// How long an answer may take.
    pub(crate) timeout: Duration,
}

/// For how long a connection lasts whose bytes are copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lasting {
    /// How long it may be silent in both directions; zero is any time.
    pub(crate) idle_timeout: Option<Duration>,
    /// How long at all.
    pub(crate) age: Option<Duration>,
}

/// Bounds of connections and requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) connections: Option<u32>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) pending: Option<u32>,
    pub(crate) requests: Option<u32>,
    pub(crate) retries: Option<u32>,
    pub(crate) per_connection: Option<u32>,
    /// How long a connection is kept without a request.
    pub(crate) idle_timeout: Option<Duration>,
    /// How long a connection may be silent whose bytes are copied; of one for requests it is the time without one, where nothing else is said.
    pub(crate) bytes_idle_timeout: Option<Duration>,
    /// How long a connection is used at all.
    pub(crate) age: Option<Duration>,
    /// How many requests share a connection.
    pub(crate) streams: Option<u32>,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) pings: Option<Pings>,
    /// Whether HTTP/1.1 becomes HTTP/2.
    pub(crate) is_upgraded: bool,
    /// Whether the backend gets what the client speaks.
    pub(crate) uses_client_protocol: bool,
}

impl Pool {
    /// For how long connections last whose bytes are copied.
    pub(crate) fn lasting(&self) -> Lasting {
        Lasting {
            idle_timeout: self.bytes_idle_timeout,
            age: self.age,
        }
    }
}

/// When an endpoint is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outlier {
    /// After so many answers from 500 in a row; 0 is never.
    pub(crate) errors: Option<u32>,
    /// After so many of 502, 503 and 504.
    pub(crate) gateway_errors: Option<u32>,
    /// After so many failures without an answer, where these are counted apart.
    pub(crate) local_errors: Option<u32>,
    pub(crate) splits_local: bool,
    pub(crate) interval: Option<Duration>,
    pub(crate) ejection: Option<Duration>,
    /// In percent.
    pub(crate) most_ejected: Option<u32>,
    /// Below this share of healthy endpoints, in percent, all of them are used.
    pub(crate) least_healthy: Option<u32>,
}
