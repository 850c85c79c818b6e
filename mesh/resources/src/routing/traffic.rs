//! What holds for connections to a host, in our own words: a DestinationRule's policy of traffic.

use std::time::Duration;

use super::model::HashBy;

/// What holds for connections to a port.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Traffic {
    pub(crate) balancer: Balancer,
    /// By what of a request an endpoint is chosen, where the balancer goes by hashes.
    pub(crate) hash: Option<HashBy>,
    pub(crate) pool: Pool,
    pub(crate) outlier: Option<Outlier>,
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
    /// Whether HTTP/1.1 becomes HTTP/2.
    pub(crate) is_upgraded: bool,
    /// Whether the backend gets what the client speaks.
    pub(crate) uses_client_protocol: bool,
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
