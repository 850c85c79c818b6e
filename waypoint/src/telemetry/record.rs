//! One request, and what is said of it at its end.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use culvert_envoy::endpoint::About;
use culvert_http::filters::Remark;

use super::{
    client::Client,
    flags::Flags,
    metrics::Telemetry,
    observed::{AttemptFacts, Observed},
    overload::Limit,
    remarks::Remarks,
};
use crate::{body::Upload, busy::Underway, config::metrics::MetricOverrides, messages::Messages};

/// A request that is under way. What is known of it at the end is said when it is dropped.
#[derive(Debug)]
pub struct Record {
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) begun: Instant,
    /// Who asks.
    pub client: Arc<Client>,
    /// The service that was asked for, `namespace/hostname`.
    pub service: Arc<str>,
    /// The address and port that was asked for.
    pub destination: SocketAddr,
    /// The client's version of HTTP.
    pub version: http::Version,
    /// The method.
    pub method: http::Method,
    /// The authority.
    pub authority: String,
    /// Path and query, as the client sent them.
    pub path: String,
    /// `x-request-id`.
    pub request_id: String,
    /// The user agent.
    pub user_agent: String,
    /// Whether it is gRPC.
    pub is_grpc: bool,
    /// The route that was taken.
    pub route: Option<Arc<str>>,
    /// The cluster that was chosen.
    pub cluster: Option<Arc<str>>,
    /// The endpoint that was asked last.
    pub endpoint: Option<(SocketAddr, Arc<About>)>,
    /// Its connection was in the tunnel.
    pub is_encrypted: bool,
    /// How often it was sent.
    pub attempts: u32,
    /// The status of the answer; 0 before there is one.
    pub status: u16,
    /// `grpc-status`, of the head or the trailers.
    pub grpc_status: Option<u32>,
    /// What went wrong.
    pub flags: Flags,
    /// How the answer came about, in Envoy's words.
    pub details: String,
    /// What policies said that decided nothing.
    pub remarks: Option<Box<Remarks>>,
    /// The client's body.
    pub upload: Option<Upload>,
    /// Bytes that the client sent after the connection changed from HTTP to something else.
    pub switched_received: u64,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// Messages of gRPC in it.
    pub(crate) messages: Messages,
    /// Time from the request's head to the answer's.
    pub first_byte: Option<Duration>,
    /// The answer went out whole.
    pub is_complete: bool,
    /// What is remembered for lines and spans that are asked for.
    pub observed: Option<Box<Observed>>,
    /// Held for as long as the request is.
    pub(crate) underway: Option<Underway>,
    /// What is counted otherwise.
    pub metrics: Option<Arc<MetricOverrides>>,
}

impl Record {
    /// Notes and counts what a filter says without deciding.
    pub(crate) fn remark(&mut self, remark: &Remark) {
        self.remarks.get_or_insert_default().add(remark, &self.telemetry);
    }

    /// A request began.
    pub fn new(
        telemetry: &Arc<Telemetry>,
        client: &Arc<Client>,
        service: &Arc<str>,
        destination: SocketAddr,
        request: &http::request::Parts,
    ) -> Self {
        let text = |name| {
            let value = request.headers.get(name);
            value.map_or_else(String::new, |value| {
                String::from_utf8_lossy(value.as_bytes()).into_owned()
            })
        };
        Self {
            telemetry: Arc::clone(telemetry),
            begun: Instant::now(),
            client: Arc::clone(client),
            service: Arc::clone(service),
            destination,
            version: request.version,
            method: request.method.clone(),
            authority: request
                .uri
                .authority()
                .map_or_else(|| text("host"), ToString::to_string),
            path: request
                .uri
                .path_and_query()
                .map_or_else(String::new, ToString::to_string),
            request_id: text("x-request-id"),
            user_agent: text("user-agent"),
            is_grpc: crate::headers::is_grpc(&request.headers),
            route: None,
            cluster: None,
            endpoint: None,
            is_encrypted: true,
            attempts: 0,
            status: 0,
            grpc_status: None,
            flags: Flags::default(),
            details: String::new(),
            remarks: None,
            upload: None,
            switched_received: 0,
            sent: 0,
            messages: Messages::default(),
            first_byte: None,
            is_complete: false,
            observed: None,
            underway: None,
            metrics: None,
        }
    }

    /// How long it has taken.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// An attempt has ended, by this status or without one; whether another follows.
    pub(crate) fn attempted(&mut self, status: Option<u16>, is_retried: bool) {
        if is_retried {
            self.telemetry.retried(&self.service);
        }
        if let Some(observed) = &mut self.observed {
            let facts = AttemptFacts {
                cluster: self.cluster.as_deref().unwrap_or_default(),
                endpoint: self.endpoint.as_ref().map(|(address, _)| *address),
                attempts: self.attempts,
            };
            observed.attempted(&facts, status, is_retried);
        }
    }

    /// A limit of the cluster is reached.
    pub(crate) fn overflow(&mut self) {
        if !self.flags.has("UO") {
            self.flags.set("UO");
            self.telemetry.overloaded(Limit::Cluster);
        }
    }

    /// The answer's head is there.
    pub fn answered(&mut self, status: http::StatusCode) {
        self.status = status.as_u16();
        self.first_byte = Some(self.begun.elapsed());
    }

    /// Bytes that the client sent.
    pub fn received(&self) -> u64 {
        self.upload.as_ref().map_or(0, Upload::received) + self.switched_received
    }
}
