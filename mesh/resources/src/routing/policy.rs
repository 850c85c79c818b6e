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
#[derive(Clone, Debug)]
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
