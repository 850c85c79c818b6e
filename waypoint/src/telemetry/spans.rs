//! Spans on their way to a receiver: a bounded queue for each on each thread, and a task that empties it. No request waits for it; what finds
//! no room, or is not taken by the receiver, is counted.

use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use bytes::Bytes;
use culvert_http::trace::{Exporter, Receiver, Span, otlp, zipkin};
use http::{HeaderMap, Method, Request, Version, header};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Duration, timeout},
};

use super::metrics::Telemetry;
use crate::{body::Body, config::cluster::Protocol, headers, state::Snapshot, upstream::Upstream};

/// Spans that wait for one receiver on one thread.
const WAITING: usize = 4096;
/// Spans that are sent at once.
const BATCH: usize = 256;
/// How long a span waits for others.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a queue without a span is kept: providers come and go with the configuration.
const IDLE: Duration = Duration::from_secs(60);
/// How long all of them may take at the program's end.
const FLUSH: Duration = Duration::from_secs(3);
/// Most of a receiver's answer that is read, in bytes.
const ANSWER: usize = 64 << 10;

/// The queues of one thread.
pub struct Spans {
    upstream: Upstream,
    state: Arc<ArcSwap<Snapshot>>,
    telemetry: Arc<Telemetry>,
    /// The waypoint's own name, for receivers that are told none.
    service: String,
    hostname: String,
    queues: Mutex<Queues>,
}

#[derive(Default)]
struct Queues {
    senders: FxHashMap<Exporter, mpsc::Sender<Span>>,
    tasks: JoinSet<()>,
}

impl std::fmt::Debug for Spans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spans").finish_non_exhaustive()
    }
}

impl Spans {
    /// No queue yet.
    pub fn new(
        upstream: Upstream,
        state: Arc<ArcSwap<Snapshot>>,
        telemetry: Arc<Telemetry>,
        service: String,
        hostname: String,
    ) -> Arc<Self> {
        Arc::new(Self {
            upstream,
            state,
            telemetry,
            service,
            hostname,
            queues: Mutex::default(),
        })
    }

    /// The pod's name.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// Takes a span for a receiver, or counts it as lost. To be called on the thread whose queues these are.
    pub(super) fn put(self: &Arc<Self>, exporter: &Exporter, span: Span) {
        let mut queues = self.queues.lock();
        let open = queues
            .senders
            .get(exporter)
            .filter(|sender| !sender.is_closed())
            .cloned();
        let sender = open.unwrap_or_else(|| {
            let (sender, receiver) = mpsc::channel(WAITING);
            queues.senders.insert(exporter.clone(), sender.clone());
            let export = Export {
                spans: Arc::downgrade(self),
                upstream: self.upstream.clone(),
                state: Arc::clone(&self.state),
                telemetry: Arc::clone(&self.telemetry),
                service: if exporter.service.is_empty() {
                    self.service.clone()
                } else {
                    exporter.service.clone()
                },
                exporter: exporter.clone(),
            };
            while queues.tasks.try_join_next().is_some() {}
            queues.tasks.spawn(export.run(receiver));
            sender
        });
        drop(queues);
        if sender.try_send(span).is_err() {
            self.telemetry.lost_spans("queue", 1);
        }
    }

    /// Sends what waits, for a moment, at the program's end.
    pub(crate) async fn flush(&self) {
        let mut tasks = {
            let mut queues = self.queues.lock();
            queues.senders.clear();
            std::mem::take(&mut queues.tasks)
        };
        let all = async { while tasks.join_next().await.is_some() {} };
        if timeout(FLUSH, all).await.is_err() {
            tracing::warn!("spans were not all sent in time");
        }
    }
}

/// What empties a queue.
struct Export {
    spans: Weak<Spans>,
    upstream: Upstream,
    state: Arc<ArcSwap<Snapshot>>,
    telemetry: Arc<Telemetry>,
    service: String,
    exporter: Exporter,
}

impl Export {
    async fn run(self, mut receiver: mpsc::Receiver<Span>) {
        while let Some(first) = self.first(&mut receiver).await {
            let mut batch = vec![first];
            let fill = async {
                while batch.len() < BATCH {
                    let room = BATCH - batch.len();
                    if receiver.recv_many(&mut batch, room).await == 0 {
                        break;
                    }
                }
            };
            // Nobody but the batch is late then.
            let _ = timeout(PATIENCE, fill).await;
            let sent = timeout(self.exporter.timeout, self.send(&batch)).await;
            let failed = match sent {
                Ok(Ok(())) => continue,
                Ok(Err(why)) => why,
                Err(_) => "no answer in time".to_owned(),
            };
            self.telemetry.lost_spans("receiver", batch.len() as u64);
            tracing::debug!(cluster = self.exporter.cluster, error = failed, "spans were not taken");
        }
    }

    /// The next span; none where the queue is closed, or was idle for too long and is closed now.
    async fn first(&self, receiver: &mut mpsc::Receiver<Span>) -> Option<Span> {
        if let Ok(next) = timeout(IDLE, receiver.recv()).await {
            return next;
        }
        receiver.close();
        if let Some(spans) = self.spans.upgrade() {
            spans.queues.lock().senders.retain(|_, sender| !sender.is_closed());
        }
        // One may have come in between.
        receiver.recv().await
    }

    async fn send(&self, batch: &[Span]) -> Result<(), String> {
        let (path, kind, body) = match &self.exporter.receiver {
            Receiver::OtlpGrpc => (
                otlp::METHOD,
                "application/grpc",
                framed(&otlp::encode(&self.service, batch)),
            ),
            Receiver::OtlpHttp(path) => (&**path, "application/x-protobuf", otlp::encode(&self.service, batch)),
            Receiver::Zipkin(path) => (&**path, "application/json", zipkin::encode(&self.service, batch)),
        };
        let is_grpc = self.exporter.receiver == Receiver::OtlpGrpc;
        let cluster = self.state.load().clusters.get(&*self.exporter.cluster).cloned();
        let cluster = cluster.ok_or_else(|| "there is no such cluster".to_owned())?;
        let endpoint = cluster
            .choose(None, 0, &[])
            .ok_or_else(|| "no healthy upstream".to_owned())?;
        let uri = http::Uri::builder()
            .scheme("http")
            .authority(&*self.exporter.authority)
            .path_and_query(path)
            .build()
            .map_err(|error| error.to_string())?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(header::CONTENT_TYPE, kind);
        if is_grpc {
            request = request.header(header::TE, "trailers");
        } else {
            request = request.header(header::CONTENT_LENGTH, body.len());
        }
        for (name, value) in &self.exporter.headers {
            request = request.header(name, value);
        }
        let request = request.body(()).map_err(|error| error.to_string())?;
        let (mut head, ()) = request.into_parts();
        let is_http2 = is_grpc || cluster.config.protocol == Protocol::Http2;
        headers::send(&mut head, is_http2).map_err(|_| "an authority that no header can have".to_owned())?;
        head.version = if is_http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        let request = Request::from_parts(head, Body::Whole(Some(Bytes::from(body))));
        let sent = self.upstream.send(&cluster, endpoint, is_http2, request).await;
        let (response, _lease) = sent.map_err(|failure| failure.why)?;
        let (head, body) = response.into_parts();
        let body = http_body_util::Limited::new(body, ANSWER).collect().await;
        if !head.status.is_success() {
            return Err(format!("status {}", head.status));
        }
        if !is_grpc {
            return Ok(());
        }
        let body = body.map_err(|error| error.to_string())?;
        let status = body
            .trailers()
            .and_then(grpc_status)
            .or_else(|| grpc_status(&head.headers));
        match status {
            Some(0) => Ok(()),
            Some(status) => Err(format!("gRPC status {status}")),
            None => Err("no gRPC status".to_owned()),
        }
    }
}

/// `grpc-status`, of a head or of trailers.
fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// A message of gRPC's: not compressed, and how long it is.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(message.len() + 5);
    frame.push(0);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    frame
}
