//! What is known of a request, or a connection, at its end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::request::Parts;
use http::{HeaderMap, Version};

/// The heads of a request and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// The request, as it was sent on, or as it came if it was not.
    pub request: &'a Parts,
    /// Fields of the answer, as the client got it.
    pub response: &'a HeaderMap,
}

/// All of it. Texts that are empty are not known.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// None for a connection.
    pub heads: Option<Heads<'a>>,
    /// Fields behind the answer's body.
    pub trailers: Option<&'a HeaderMap>,
    /// The client's version of HTTP; none for a connection.
    pub version: Option<Version>,
    /// When it began.
    pub begun: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// Until the request was there whole.
    pub request_took: Option<Duration>,
    /// Until the first byte of the answer came.
    pub response_took: Option<Duration>,
    /// The status; 0 for none.
    pub status: u16,
    /// `grpc-status`.
    pub grpc_status: Option<u32>,
    /// Whether it is gRPC.
    pub is_grpc: bool,
    /// Short names of response flags, in the order in which they were set.
    pub flags: &'a [&'static str],
    /// How the answer came about.
    pub details: &'a str,
    /// Why the connection to the endpoint failed.
    pub upstream_failure: &'a str,
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// How often it was sent.
    pub attempts: u32,
    /// Where it was sent last.
    pub upstream: Option<SocketAddr>,
    /// The cluster that was chosen.
    pub cluster: &'a str,
    /// The route that was taken.
    pub route: &'a str,
    /// The address and port that was asked for.
    pub destination: SocketAddr,
    /// Who asks, and from which port.
    pub client: SocketAddr,
    /// The SPIFFE ID of who asks.
    pub principal: &'a str,
    /// What access policies that decide nothing left, by key: metadata in the namespace `envoy.filters.http.rbac`.
    pub remarks: Option<&'a BTreeMap<String, String>>,
    /// The trace that it is part of.
    pub trace: String,
    /// The program's own name.
    pub hostname: &'a str,
}
