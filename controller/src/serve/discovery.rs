//! ADS, delta and state of the world: who may open a stream, and how long it lasts.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use culvert_proto::discovery::aggregated_discovery_service_server::SERVICE_NAME;
use culvert_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codec::Codec as _;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::lifetime::lifetime;
use super::messages::Messages;
use super::session::Session;
use super::shared::Shared;
use super::translation::{Requests, translate};
use crate::authority::{Authenticator, Connection, authenticate};

/// The methods.
const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const WORLD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

/// A client that comes back lists all that it holds: some sixty bytes for each resource.
const MAX_REQUEST: usize = 64 << 20;

/// Responses on their way to one client. The state machine has at most one for each type outstanding, so that this is
/// never full and a slow client holds up nobody.
const RESPONSES: usize = 8;

/// The service. It is written out rather than generated, because it encodes its responses by itself: see [`Messages`].
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

    /// Opens a stream of delta or of state of the world.
    async fn open(self, request: http::Request<Body>, is_world: bool) -> Result<Body, Status> {
        let (parts, body) = request.into_parts();
        let metadata = MetadataMap::from_headers(parts.headers);
        let connection = parts.extensions.get::<Connection>().cloned().unwrap_or_default();
        let source = connection.source();
        let authenticated = authenticate(&*self.authenticator, &metadata, source)
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
        let session = Session::open(self.shared, authenticated.caller, source, responses, end);
        if !is_world {
            let mut codec = ProstCodec::<DeltaDiscoveryResponse, DeltaDiscoveryRequest>::default();
            let requests = Streaming::new_request(codec.decoder(), body, None, Some(MAX_REQUEST));
            tokio::spawn(session.run(Requests::Delta(Box::new(requests))));
            return Ok(Body::new(Messages::new(receiver)));
        }
        let mut codec = ProstCodec::<DiscoveryResponse, DiscoveryRequest>::default();
        let requests = Streaming::new_request(codec.decoder(), body, None, Some(MAX_REQUEST));
        let (to_session, from_client) = mpsc::channel(RESPONSES);
        let (to_client, messages) = mpsc::channel(RESPONSES);
        tokio::spawn(session.run(Requests::World(from_client)));
        tokio::spawn(translate(requests, to_session, receiver, to_client));
        Ok(Body::new(Messages::new(messages)))
    }
}

impl NamedService for Discovery {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<http::Request<Body>> for Discovery {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let own = self.clone();
        Box::pin(async move {
            let opened = match request.uri().path() {
                DELTA => own.open(request, false).await,
                WORLD => own.open(request, true).await,
                _ => Err(Status::unimplemented("only aggregated discovery is served")),
            };
            Ok(match opened {
                Ok(messages) => {
                    let mut response = http::Response::new(messages);
                    let grpc = http::HeaderValue::from_static("application/grpc");
                    response.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
                    response
                }
                Err(status) => status.into_http(),
            })
        })
    }
}
