//! What is remembered of a request for its lines in access logs that the configuration asks for, and for its span.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use culvert_http::trace::{Begun, Context, Kind, Span, child};
use culvert_telemetry::AccessLines;
use http::{HeaderMap, request::Parts};

use super::spans::Spans;
use crate::config::observing::Observing;

/// Heads as they were in the end.
#[derive(Debug, Default)]
pub struct SeenHeads(pub(super) OnceLock<(Parts, HeaderMap)>);

impl SeenHeads {
    /// Notes them, once.
    pub(crate) fn set(&self, request: &Parts, response: &HeaderMap) {
        let _ = self.0.set((request.clone(), response.clone()));
    }
}

/// A request that is observed.
#[derive(Debug)]
pub struct Observed {
    pub(super) chain: Arc<Observing>,
    /// Where its spans go.
    pub(super) spans: Arc<Spans>,
    pub(super) lines: AccessLines,
    pub(super) begun: SystemTime,
    /// The head as it came, for what is answered at once.
    pub(super) came: Parts,
    /// Heads in the end.
    pub(crate) heads: Arc<SeenHeads>,
    pub(super) trace: Option<Begun>,
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
        if chain.is_idle() {
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

    /// Whether the waypoint's own line is not wanted.
    pub(super) fn has_lines(&self) -> bool {
        !self.chain.logs.is_empty()
    }
}

/// What is known of an attempt.
pub(crate) struct AttemptFacts<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) endpoint: Option<SocketAddr>,
    /// Which one it is, from 1.
    pub(crate) attempts: u32,
}

pub(super) fn finish(span: &mut Span) {
    if span.is_error {
        span.tag("error", "true");
    }
}
