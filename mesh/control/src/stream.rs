//! Opening a configuration stream.

use std::time::Duration;

use culvert_proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
    aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
};
use culvert_xds::client::Client;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Streaming};

use crate::{
    ControlMetrics,
    channel::{ControllerClient, chain, describe},
};

/// A response may describe a whole large mesh.
const MAX_RESPONSE: usize = 512 * 1024 * 1024;

/// Pauses before the controller is tried again.
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(20);
pub(super) const LAST_RETRY: Duration = Duration::from_secs(10);

/// Both directions of a stream.
pub(super) type Stream = (
    mpsc::UnboundedSender<DeltaDiscoveryRequest>,
    Streaming<DeltaDiscoveryResponse>,
);

/// Opens a stream, over a new connection, and asks for what `client` wants. The error says why not.
pub(super) async fn open(
    controller: &ControllerClient,
    client: &Client,
    metrics: &ControlMetrics,
) -> Result<Stream, String> {
    let channel = controller.connect().await.map_err(|error| chain(&error))?;
    let mut service = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE);
    let (requests, outgoing) = mpsc::unbounded_channel();
    for request in client.connect() {
        // The receiver is right here.
        let _ = requests.send(request);
    }
    let mut request = Request::new(UnboundedReceiverStream::new(outgoing));
    controller.authorize(&mut request).map_err(|error| error.to_string())?;
    let responses = service
        .delta_aggregated_resources(request)
        .await
        .map_err(|status| describe(&status))?;
    tracing::info!(
        controller = controller.settings().controller,
        "configuration stream is open"
    );
    metrics.controller_connected.set(1);
    controller.note_stream();
    Ok((requests, responses.into_inner()))
}
