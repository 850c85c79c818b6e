//! Opening a configuration stream.

use std::{future::poll_fn, time::Duration};

use culvert_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use culvert_xds::client::Client;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::UnboundedReceiverStream};
use tonic::{
    Code, Request, Status,
    body::Body,
    codec::{Codec as _, EncodeBody},
    codegen::{Service as _, http},
    transport::Channel,
};
use tonic_prost::ProstCodec;

use crate::{
    ControlMetrics,
    channel::{ControllerClient, chain, describe},
    responses::Responses,
};

/// The method.
const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// Pauses before the controller is tried again.
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(20);
pub(super) const LAST_RETRY: Duration = Duration::from_secs(10);

/// Both directions of a stream.
pub(super) type Stream = (mpsc::UnboundedSender<DeltaDiscoveryRequest>, Responses);

/// Opens a stream, over a new connection, and asks for what `client` wants. The error says why not.
pub(super) async fn open(
    controller: &ControllerClient,
    client: &Client,
    metrics: &ControlMetrics,
) -> Result<Stream, String> {
    let channel = controller.connect().await.map_err(|error| chain(&error))?;
    let (requests, outgoing) = mpsc::unbounded_channel();
    for request in client.connect() {
        // The receiver is right here.
        let _ = requests.send(request);
    }
    let mut request = Request::new(UnboundedReceiverStream::new(outgoing));
    controller.authorize(&mut request).map_err(|error| error.to_string())?;
    let responses = call(channel, request).await.map_err(|status| describe(&status))?;
    tracing::info!(
        controller = controller.settings().controller,
        "configuration stream is open"
    );
    metrics.controller_connected.set(1);
    controller.note_stream();
    Ok((requests, responses))
}

/// Calls the method. It is written out rather than generated, because its responses are read by ourselves: see [`Responses`].
async fn call(
    mut channel: Channel,
    request: Request<UnboundedReceiverStream<DeltaDiscoveryRequest>>,
) -> Result<Responses, Status> {
    let mut codec = ProstCodec::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>::default();
    let (metadata, _, outgoing) = request.into_parts();
    let body = EncodeBody::new_client(codec.encoder(), outgoing.map(Ok), None, None);
    let mut request = http::Request::new(Body::new(body));
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = http::Uri::from_static(DELTA);
    *request.headers_mut() = metadata.into_headers();
    let headers = request.headers_mut();
    headers.insert(http::header::TE, http::HeaderValue::from_static("trailers"));
    headers.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/grpc"),
    );
    let failed = |error: tonic::transport::Error| Status::from_error(Box::new(error));
    poll_fn(|context| channel.poll_ready(context)).await.map_err(failed)?;
    let response = channel.call(request).await.map_err(failed)?;
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != Code::Ok => Err(status),
        None if response.status() != http::StatusCode::OK => Err(Status::unavailable(format!(
            "the controller, or something before it, answers with HTTP status {}",
            response.status()
        ))),
        _ => Ok(Responses::new(response.into_body())),
    }
}
