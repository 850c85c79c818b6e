//! Delta ADS: who may open a stream, and how long it lasts.

use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use culvert_proto::discovery::aggregated_discovery_service_server::AggregatedDiscoveryService;
use culvert_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::lifetime::lifetime;
use super::session::Session;
use super::shared::Shared;
use crate::authority::{Authenticator, Connection, authenticate};

/// Responses on their way to one client. The state machine has at most one for each type outstanding, so that this is
/// never full and a slow client holds up nobody.
const RESPONSES: usize = 8;

/// The service.
#[derive(Clone)]
pub(crate) struct Discovery {
    shared: Shared,
    authenticator: Arc<dyn Authenticator>,
}

impl Discovery {
    /// A service for callers that have a token.
    pub(crate) fn new(shared: Shared, authenticator: Arc<dyn Authenticator>) -> Self {
        Self { shared, authenticator }
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
        let connection = request.extensions().get::<Connection>().cloned().unwrap_or_default();
        let source = connection.source();
        let authenticated = authenticate(&*self.authenticator, request.metadata(), source)
            .await
            .map_err(|error| {
                self.shared.metrics.unauthenticated.inc();
                error.log(source, "refused a discovery stream");
                Status::from(error)
            })?;
        connection.authenticated();
        let now: SystemTime = self.shared.clock.now();
        let left = authenticated
            .expires
            .map(|at| at.duration_since(now).unwrap_or_default());
        let end = Instant::now() + lifetime(self.shared.longest, left);
        let (responses, receiver) = mpsc::channel(RESPONSES);
        let session = Session::open(self.shared.clone(), authenticated.caller, source, responses, end);
        tokio::spawn(session.run(request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
