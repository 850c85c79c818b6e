//! Delta ADS: one task for each stream, which runs the state machine of `culvert_xds` over the newest snapshot.

use std::pin::Pin;
use std::sync::Arc;

use culvert_proto::discovery::aggregated_discovery_service_server::AggregatedDiscoveryService;
use culvert_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse};
use culvert_xds::server::{Meaning, Stream};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::metrics::DiscoveryMetrics;
use super::nodes::{Guard, Nodes};
use super::roots::{Roots, View};
use crate::authority::{Authenticator, caller};
use crate::state::State;

/// Responses on their way to one client. The state machine has at most one for each type outstanding, so that this is
/// never full and a slow client holds up nobody.
const RESPONSES: usize = 8;

/// Names that one client may ask for, and their length: both far above what a node's pods can talk to.
const MAX_NAMES: usize = 200_000;
const MAX_NAME: usize = 1024;

/// The service.
#[derive(Clone)]
pub(crate) struct Discovery {
    state: watch::Receiver<Arc<State>>,
    roots: watch::Receiver<Arc<str>>,
    authenticator: Arc<dyn Authenticator>,
    nodes: Nodes,
    metrics: DiscoveryMetrics,
    stop: watch::Receiver<bool>,
}

impl Discovery {
    /// A service that tells what `state` holds, and the trusted `roots`, to nodes that have a token.
    pub(crate) fn new(
        state: watch::Receiver<Arc<State>>,
        roots: watch::Receiver<Arc<str>>,
        authenticator: Arc<dyn Authenticator>,
        nodes: Nodes,
        metrics: DiscoveryMetrics,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            state,
            roots,
            authenticator,
            nodes,
            metrics,
            stop,
        }
    }
}

type Responses<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Discovery {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("only delta discovery is served"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let peer = request.remote_addr();
        let node = caller(&*self.authenticator, request.metadata())
            .await
            .map_err(|error| {
                self.metrics.unauthenticated.inc();
                tracing::warn!(?peer, reason = %error, "refused a discovery stream");
                Status::from(error)
            })?;
        let (responses, receiver) = mpsc::channel(RESPONSES);
        let mut stream = Stream::new();
        stream.set_node(&node);
        let follower = Follower {
            guard: self.nodes.open(&node, peer),
            state: self.state.clone(),
            told: self.roots.clone(),
            roots: Roots::new(&self.roots.borrow()),
            stop: self.stop.clone(),
            metrics: self.metrics.clone(),
            responses,
            stream,
            node,
        };
        tokio::spawn(follower.run(request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which also means to stop.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One stream's task.
struct Follower {
    node: String,
    stream: Stream,
    state: watch::Receiver<Arc<State>>,
    told: watch::Receiver<Arc<str>>,
    roots: Roots,
    stop: watch::Receiver<bool>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    guard: Guard,
    metrics: DiscoveryMetrics,
}

impl Follower {
    async fn run(mut self, mut requests: Streaming<DeltaDiscoveryRequest>) {
        self.metrics.streams.inc();
        tracing::info!(node = self.node, "a node begins to follow");
        let why = loop {
            tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => if let Err(status) = self.take(&request) {
                        let why = status.to_string();
                        let _ = self.responses.send(Err(status)).await;
                        break why;
                    },
                    Ok(None) => break "the client ended it".to_owned(),
                    Err(status) => break status.to_string(),
                },
                changed = self.state.changed() => if changed.is_err() {
                    break "the controller stops".to_owned();
                },
                // The authority outlives all streams.
                _ = self.told.changed() => {}
                () = stopped(&mut self.stop) => {
                    let _ = self.responses.send(Err(Status::unavailable("the controller stops"))).await;
                    break "the controller stops".to_owned();
                },
                () = self.responses.closed() => break "the client is gone".to_owned(),
            }
            if !self.answer().await {
                break "the client is gone".to_owned();
            }
        };
        self.metrics.streams.dec();
        tracing::info!(node = self.node, why, "a node no longer follows");
    }

    /// Takes a request in. An error ends the stream.
    fn take(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), Status> {
        let type_url = request.type_url.as_str();
        let names = || {
            request
                .resource_names_subscribe
                .iter()
                .chain(request.initial_resource_versions.keys())
        };
        if names().any(|name| name.len() > MAX_NAME) || names().count() > MAX_NAMES {
            return Err(Status::resource_exhausted("names are too many or too long"));
        }
        if let Some(client) = &request.node {
            self.guard.name(&client.id);
        }
        let state = Arc::clone(&self.state.borrow());
        let view = View {
            snapshot: &state.snapshot,
            roots: &self.roots,
        };
        match self.stream.receive(request, &view) {
            Meaning::Subscribed | Meaning::Stale => {}
            Meaning::Acknowledged => {
                self.guard
                    .note(type_url, |p| p.acknowledged.clone_from(&request.response_nonce));
            }
            Meaning::Refused { reason } => {
                tracing::warn!(node = self.node, type_url, reason, "a node refused a response");
                self.metrics.refused(type_url);
                self.guard.note(type_url, |p| {
                    p.refused += 1;
                    p.reason = Some(reason);
                });
            }
            Meaning::UnknownType => {
                tracing::warn!(node = self.node, type_url, "a node asks for a type that is not served");
                return Ok(());
            }
        }
        let wanted = self.stream.wanted(type_url);
        if wanted > MAX_NAMES {
            return Err(Status::resource_exhausted(format!(
                "more than {MAX_NAMES} names are subscribed"
            )));
        }
        self.guard.note(type_url, |p| p.wanted = wanted);
        Ok(())
    }

    /// Sends all that is due. False when the client is gone.
    async fn answer(&mut self) -> bool {
        let state = Arc::clone(&self.state.borrow_and_update());
        self.roots = Roots::new(&self.told.borrow_and_update());
        loop {
            let view = View {
                snapshot: &state.snapshot,
                roots: &self.roots,
            };
            let Some(response) = self.stream.next(&view) else { break };
            let (resources, removed) = (response.resources.len(), response.removed_resources.len());
            self.metrics.sent(&response.type_url, resources, removed);
            tracing::debug!(
                node = self.node,
                type_url = response.type_url,
                resources,
                removed,
                "response"
            );
            let held = self.stream.held(&response.type_url);
            self.guard.note(&response.type_url, |p| {
                p.held = held;
                p.sent.clone_from(&response.nonce);
            });
            if self.responses.send(Ok(response)).await.is_err() {
                return false;
            }
        }
        true
    }
}
