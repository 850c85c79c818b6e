//! What is made at the end of what was observed: a request's lines and span, a connection's lines.

use std::{
    net::SocketAddr,
    time::{Instant, SystemTime},
};

use culvert_http::{
    access_log::{AccessLog, Facts, Heads, Output},
    trace::{Begun, Kind, Span},
};
use culvert_telemetry::AccessLines;
use http::{HeaderMap, Version, request::Parts};

use super::{
    client::Client,
    observed::{Observed, finish},
    record::Record,
    remarks::Remarks,
};

/// The request is over: its lines are written, and its span goes on its way.
pub(super) fn request(observed: &Observed, record: &Record) {
    let empty = HeaderMap::new();
    let Heads { request, .. } = heads(observed, &empty);
    if let (Some(tracing), Some(trace)) = (&observed.chain.tracing, &observed.trace)
        && trace.context.sampled == Some(true)
    {
        let mut span = server_span(record, trace, request, tracing.max_path, observed.begun);
        if !observed.operation.is_empty() {
            span.name.clone_from(&observed.operation);
        }
        finish(&mut span);
        tracing.tag(request, &mut span);
        observed.spans.put(&tracing.exporter, span);
    }
    if observed.chain.logs.is_empty() {
        return;
    }
    let facts = facts(record, Some(observed), &empty);
    write(&observed.chain.logs, &observed.lines, &facts);
}

fn heads<'a>(observed: &'a Observed, empty: &'a HeaderMap) -> Heads<'a> {
    match observed.heads.0.get() {
        Some((request, response)) => Heads { request, response },
        None => Heads {
            request: &observed.came,
            response: empty,
        },
    }
}

/// What is known of a request; of its heads, where it is observed. `empty` is an answer without fields.
pub(super) fn facts<'a>(record: &'a Record, observed: Option<&'a Observed>, empty: &'a HeaderMap) -> Facts<'a> {
    let begun = || SystemTime::now().checked_sub(record.elapsed());
    let trace = observed.and_then(|observed| observed.trace.as_ref());
    Facts {
        heads: observed.map(|observed| heads(observed, empty)),
        trailers: observed.and_then(|observed| observed.trailers.as_ref()),
        version: Some(record.version),
        begun: observed.map_or_else(|| begun().unwrap_or(SystemTime::UNIX_EPOCH), |observed| observed.begun),
        took: record.elapsed(),
        request_took: None,
        response_took: record.first_byte,
        status: record.status,
        grpc_status: record.grpc_status,
        is_grpc: record.is_grpc,
        flags: record.flags.as_slice(),
        details: &record.details,
        remarks: record.remarks.as_deref().map(|remarks| &remarks.metadata),
        upstream_failure: observed.map_or("", |observed| &observed.upstream_failure),
        received: record.received(),
        sent: record.sent,
        attempts: record.attempts,
        upstream: record.endpoint.as_ref().map(|(address, _)| *address),
        cluster: record.cluster.as_deref().unwrap_or_default(),
        route: record.route.as_deref().unwrap_or_default(),
        destination: record.destination,
        client: SocketAddr::new(record.client.address, record.client.port),
        principal: &record.client.principal,
        trace: trace.map_or_else(String::new, |trace| trace.context.trace.to_string()),
        hostname: observed.map_or("", |observed| observed.spans.hostname()),
    }
}

/// What is said of a connection whose bytes were copied.
pub(super) struct TcpFacts<'a> {
    pub(super) client: &'a Client,
    pub(super) destination: SocketAddr,
    pub(super) begun: Instant,
    pub(super) flags: &'a [&'static str],
    pub(super) details: &'a str,
    pub(super) remarks: Option<&'a Remarks>,
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
            remarks: self.remarks.map(|remarks| &remarks.metadata),
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
