//! What is remembered of a request for its lines in access logs that the configuration asks for, and for its span.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Instant, SystemTime},
};

use culvert_http::{
    access_log::{AccessLog, Facts, Heads, Output},
    trace::{Begun, Context, Kind, Span, Tracing, child},
};
use culvert_telemetry::AccessLines;
use http::{HeaderMap, Version, request::Parts};

use super::{client::Client, record::Record, spans::Spans};

/// What a chain wants to be known of its requests.
#[derive(Debug, Default)]
pub struct Observing {
    /// Lines; none where the configuration says nothing of them, and the waypoint's own line is written.
    pub logs: Vec<AccessLog>,
    /// Spans.
    pub tracing: Option<Tracing>,
}

/// Heads as they were in the end.
#[derive(Debug, Default)]
pub struct SeenHeads(OnceLock<(Parts, HeaderMap)>);

impl SeenHeads {
    /// Notes them, once.
    pub(crate) fn set(&self, request: &Parts, response: &HeaderMap) {
        let _ = self.0.set((request.clone(), response.clone()));
    }
}

/// A request that is observed.
#[derive(Debug)]
pub struct Observed {
    chain: Arc<Observing>,
    /// Where its spans go.
    spans: Arc<Spans>,
    lines: AccessLines,
    begun: SystemTime,
    /// The head as it came, for what is answered at once.
    came: Parts,
    /// Heads in the end.
    pub(crate) heads: Arc<SeenHeads>,
    trace: Option<Begun>,
    /// The attempt that is under way.
    attempt: Option<(Context, SystemTime)>,
    /// Fields behind the answer's body.
    pub(crate) trailers: Option<HeaderMap>,
    /// Why the connection to an endpoint failed.
    pub(crate) upstream_failure: String,
    /// What its span is called, if the route says so.
    pub(crate) operation: String,
}

impl Observed {
    /// Begins to observe a request; none where the chain wants nothing.
    pub(crate) fn new(
        chain: &Arc<Observing>,
        spans: &Arc<Spans>,
        lines: &AccessLines,
        head: &Parts,
    ) -> Option<Box<Self>> {
        if chain.logs.is_empty() && chain.tracing.is_none() {
            return None;
        }
        Some(Box::new(Self {
            chain: Arc::clone(chain),
            spans: Arc::clone(spans),
            lines: lines.clone(),
            begun: SystemTime::now(),
            came: head.clone(),
            heads: Arc::default(),
            trace: None,
            attempt: None,
            trailers: None,
            upstream_failure: String::new(),
            operation: String::new(),
        }))
    }

    /// Finds out what trace it is part of. What travels with it is put into its head.
    pub(crate) fn trace(&mut self, head: &mut Parts) {
        self.trace = self.chain.tracing.as_ref().and_then(|tracing| {
            let begun = tracing.begin(&mut head.headers, &mut || fastrand::u64(..))?;
            tracing.inject(&begun.context, &mut head.headers);
            Some(begun)
        });
        self.came = head.clone();
    }

    /// An attempt begins. Where attempts have spans of their own, the endpoint is told of that one.
    pub(crate) fn attempt(&mut self, headers: &mut HeaderMap) {
        let (Some(tracing), Some(trace)) = (&self.chain.tracing, &self.trace) else {
            return;
        };
        if tracing.spans_attempts {
            let context = child(&trace.context, &mut || fastrand::u64(..));
            tracing.inject(&context, headers);
            self.attempt = Some((context, SystemTime::now()));
        }
    }

    /// It has ended, by this status, or without one; whether another follows.
    pub(crate) fn attempted(&mut self, record: &AttemptFacts<'_>, status: Option<u16>, is_retried: bool) {
        let Some((context, begun)) = self.attempt.take() else {
            return;
        };
        let Some(tracing) = self.chain.tracing.as_ref().filter(|_| context.sampled == Some(true)) else {
            return;
        };
        let name = format!("router {} egress", record.cluster);
        let mut span = Span::of(&context, name, Kind::Client, begun);
        span.ended = SystemTime::now();
        span.is_error = status.is_none_or(|status| status >= 500);
        if is_retried {
            span.tag("canceled", "true");
        }
        if record.attempts > 1 {
            span.tag("retry.count", (record.attempts - 1).to_string());
        }
        if let Some(endpoint) = record.endpoint {
            span.tag("upstream_address", endpoint.to_string());
            span.tag("peer.address", endpoint.to_string());
        }
        span.tag("component", "proxy");
        span.tag("upstream_cluster", record.cluster);
        span.tag("upstream_cluster.name", record.cluster);
        span.tag("http.status_code", status.unwrap_or_default().to_string());
        span.tag("response_flags", "-");
        finish(&mut span);
        tracing.tag(&self.came, &mut span);
        self.spans.put(&tracing.exporter, span);
    }

    /// The request is over: its lines are written, and its span goes on its way.
    pub(super) fn end(&mut self, record: &Record) {
        let seen = self.heads.0.get();
        let empty = HeaderMap::new();
        let (request, response) = seen.map_or((&self.came, &empty), |(request, response)| (request, response));
        if let (Some(tracing), Some(trace)) = (&self.chain.tracing, &self.trace)
            && trace.context.sampled == Some(true)
        {
            let mut span = server_span(record, trace, request, tracing.max_path, self.begun);
            if !self.operation.is_empty() {
                span.name.clone_from(&self.operation);
            }
            finish(&mut span);
            tracing.tag(request, &mut span);
            self.spans.put(&tracing.exporter, span);
        }
        if self.chain.logs.is_empty() {
            return;
        }
        let facts = Facts {
            heads: Some(Heads { request, response }),
            trailers: self.trailers.as_ref(),
            version: Some(record.version),
            begun: self.begun,
            took: record.elapsed(),
            request_took: None,
            response_took: record.first_byte,
            status: record.status,
            grpc_status: record.grpc_status,
            is_grpc: record.is_grpc,
            flags: record.flags.as_slice(),
            details: &record.details,
            upstream_failure: &self.upstream_failure,
            received: record.received(),
            sent: record.sent,
            attempts: record.attempts,
            upstream: record.endpoint.as_ref().map(|(address, _)| *address),
            cluster: record.cluster.as_deref().unwrap_or_default(),
            route: record.route.as_deref().unwrap_or_default(),
            destination: record.destination,
            client: SocketAddr::new(record.client.address, record.client.port),
            principal: &record.client.principal,
            trace: self
                .trace
                .as_ref()
                .map_or_else(String::new, |trace| trace.context.trace.to_string()),
            hostname: self.spans.hostname(),
        };
        write(&self.chain.logs, &self.lines, &facts);
    }

    /// Whether the waypoint's own line is not wanted.
    pub(super) fn has_lines(&self) -> bool {
        !self.chain.logs.is_empty()
    }
}

/// What is said of a connection whose bytes were copied.
pub(super) struct TcpFacts<'a> {
    pub(super) client: &'a Client,
    pub(super) destination: SocketAddr,
    pub(super) begun: Instant,
    pub(super) flags: &'a [&'static str],
    pub(super) details: &'a str,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) upstream: Option<SocketAddr>,
    pub(super) cluster: &'a str,
    pub(super) hostname: &'a str,
}

impl TcpFacts<'_> {
    /// Writes its lines.
    pub(super) fn write(&self, logs: &[AccessLog], lines: &AccessLines) {
        let took = self.begun.elapsed();
        let facts = Facts {
            heads: None,
            trailers: None,
            version: None,
            begun: SystemTime::now().checked_sub(took).unwrap_or(SystemTime::UNIX_EPOCH),
            took,
            request_took: None,
            response_took: None,
            status: 0,
            grpc_status: None,
            is_grpc: false,
            flags: self.flags,
            details: self.details,
            upstream_failure: "",
            received: self.received,
            sent: self.sent,
            attempts: u32::from(self.upstream.is_some()),
            upstream: self.upstream,
            cluster: self.cluster,
            route: "",
            destination: self.destination,
            client: SocketAddr::new(self.client.address, self.client.port),
            principal: &self.client.principal,
            trace: String::new(),
            hostname: self.hostname,
        };
        write(logs, lines, &facts);
    }
}

fn write(logs: &[AccessLog], lines: &AccessLines, facts: &Facts<'_>) {
    for log in logs {
        if let Some(line) = log.line(facts) {
            match log.output {
                Output::Stdout => lines.stdout(&line),
                Output::Stderr => lines.stderr(&line),
            }
        }
    }
}

/// What is known of an attempt.
pub(crate) struct AttemptFacts<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) endpoint: Option<SocketAddr>,
    /// Which one it is, from 1.
    pub(crate) attempts: u32,
}

fn server_span(record: &Record, trace: &Begun, request: &Parts, max_path: usize, begun: SystemTime) -> Span {
    let host = culvert_http::host(request).to_owned();
    let mut span = Span::of(&trace.context, host.clone(), Kind::Server, begun);
    span.is_shared = trace.is_shared;
    span.ended = begun + record.elapsed();
    span.is_error = record.status == 0 || record.status >= 500 || record.grpc_status.is_some_and(is_servers_fault);
    let original = request
        .headers
        .get("x-envoy-original-path")
        .and_then(|path| path.to_str().ok());
    let path = original.unwrap_or_else(|| culvert_http::path_and_query(request));
    let mut end = max_path.min(path.len());
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    let cluster = record.cluster.as_deref().unwrap_or("-");
    let or_dash = |text: &str| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text.to_owned()
        }
    };
    span.tag(
        "guid:x-request-id",
        crate::headers::text(&request.headers, "x-request-id"),
    );
    span.tag(
        "http.url",
        format!("{}://{host}{}", culvert_http::scheme(request), &path[..end]),
    );
    span.tag("http.method", request.method.as_str());
    span.tag("downstream_cluster", "-");
    span.tag("user_agent", or_dash(&record.user_agent));
    span.tag("http.protocol", protocol(record.version));
    span.tag("peer.address", record.client.address.to_string());
    span.tag("request_size", record.received().to_string());
    span.tag("response_size", record.sent.to_string());
    span.tag("component", "proxy");
    span.tag("upstream_cluster", cluster);
    span.tag("upstream_cluster.name", cluster);
    span.tag("http.status_code", record.status.to_string());
    span.tag("response_flags", record.flags.to_string());
    if record.is_grpc {
        let path = culvert_http::path_and_query(request);
        span.tag("grpc.path", path);
        span.tag("grpc.authority", host);
        span.tag(
            "grpc.content_type",
            crate::headers::text(&request.headers, "content-type"),
        );
        if let Some(status) = record.grpc_status {
            span.tag("grpc.status_code", status.to_string());
        }
    }
    span
}

fn finish(span: &mut Span) {
    if span.is_error {
        span.tag("error", "true");
    }
}

/// Of gRPC's codes those that are not the client's doing: as Envoy has it.
fn is_servers_fault(status: u32) -> bool {
    [2, 4, 12, 13, 14, 15].contains(&status)
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}
