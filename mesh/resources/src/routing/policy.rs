//! What a TrafficPolicy asks for, in our own words.

use std::sync::Arc;
use std::time::Duration;

use super::model::{Backend, Match};

/// What a TrafficPolicy asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TrafficPolicy {
    /// Limits that each pod of the waypoint counts by itself.
    pub(crate) local: Vec<LocalLimit>,
    /// A service that counts for all of them.
    pub(crate) global: Option<GlobalLimit>,
    pub(crate) compression: Option<Compression>,
    pub(crate) health_check: Option<HealthCheck>,
    pub(crate) timeouts: Timeouts,
    pub(crate) retry: Retry,
}

/// How long things may take. What is not there is left to others, and zero is any time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// A request and its answer, without a byte of either.
    pub(crate) stream_idle: Option<Duration>,
    /// A request and its answer, from the first head on.
    pub(crate) stream_duration: Option<Duration>,
    /// What a request's `grpc-timeout` may ask for; without this nothing is done about that.
    pub(crate) grpc_most: Option<Duration>,
    /// A request, until all of it has come.
    pub(crate) receive: Option<Duration>,
    /// A client's connection, without a request.
    pub(crate) client_idle: Option<Duration>,
    /// A connection to an endpoint, without a request.
    pub(crate) endpoint_idle: Option<Duration>,
}

/// How requests are tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retry {
    /// The longest time that an endpoint's `retry-after` counts for.
    pub(crate) after_most: Option<Duration>,
}

impl Timeouts {
    /// These, and those of others where nothing is said.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            stream_idle: self.stream_idle.or(other.stream_idle),
            stream_duration: self.stream_duration.or(other.stream_duration),
            grpc_most: self.grpc_most.or(other.grpc_most),
            receive: self.receive.or(other.receive),
            client_idle: self.client_idle.or(other.client_idle),
            endpoint_idle: self.endpoint_idle.or(other.endpoint_idle),
        }
    }
}

/// A limit, as a bucket of tokens that fills continuously.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LocalLimit {
    /// How many in the time `per`; from 1.
    pub(crate) requests: u32,
    /// From a second, in whole ones.
    pub(crate) per: Duration,
    /// How many at once; from 1.
    pub(crate) burst: u32,
    /// What has a bucket of its own for each value; requests without it have one together.
    pub(crate) by: Option<Attribute>,
    pub(crate) matched: Match,
}

/// Something of a request that has a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    /// A header, by its name in lower case.
    Header(String),
    ClientAddress,
    ClientIdentity,
}

/// A service that is asked about requests.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GlobalLimit {
    pub(crate) provider: String,
    pub(crate) domain: String,
    pub(crate) descriptors: Vec<Descriptor>,
    /// Whether requests go on where it does not answer; as the provider says where the policy does not.
    pub(crate) fails_open: Option<bool>,
    /// The same of how long it may take.
    pub(crate) timeout: Option<Duration>,
}

/// What it is asked about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Descriptor {
    /// By their keys, in order.
    pub(crate) entries: Vec<(String, Entry)>,
    pub(crate) matched: Match,
}

/// A value of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Text(String),
    Of(Attribute),
}

/// How answers are compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compression {
    /// The first of those that a client likes best.
    pub(crate) algorithms: Vec<Algorithm>,
    /// Answers of a known length below it are left alone, bytes.
    pub(crate) minimum: u32,
    /// Media types without parameters.
    pub(crate) content_types: Vec<String>,
}

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Brotli,
    Gzip,
    Zstd,
}

/// How endpoints are looked after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HealthCheck {
    pub(crate) ask: Ask,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// Good checks in a row after which an endpoint is back.
    pub(crate) healthy: u32,
    /// Bad ones after which it is left out.
    pub(crate) unhealthy: u32,
}

/// How an endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Http {
        path: String,
        /// The Service's own where nothing is said.
        host: Option<String>,
        /// First and last, both included.
        statuses: Vec<(u16, u16)>,
    },
    Grpc {
        service: String,
    },
    Tcp,
}

/// A policy that holds at a port.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Applied {
    /// Its object, as `NAMESPACE/NAME`.
    pub(crate) name: Arc<str>,
    pub(crate) policy: Arc<TrafficPolicy>,
    /// The service that counts, where the policy asks for one.
    pub(crate) counter: Option<Counter>,
    /// Whether it holds for all requests; else for those of the rules that name it.
    pub(crate) is_for_all: bool,
}

/// A service that counts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Counter {
    /// None where there is none, and nobody gets an answer.
    pub(crate) backend: Option<Backend>,
    pub(crate) host: String,
    pub(crate) fails_open: bool,
    pub(crate) timeout: Duration,
}
