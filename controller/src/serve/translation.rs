//! A stream of the older form of discovery, between its client and a session that speaks the delta one.

use culvert_proto::discovery::{DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse};
use culvert_xds::server::Response;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::world::World;

/// What a client says, in whichever form.
pub(super) enum Requests {
    Delta(Box<Streaming<DeltaDiscoveryRequest>>),
    /// Translated.
    World(mpsc::Receiver<Result<DeltaDiscoveryRequest, Status>>),
}

impl Requests {
    /// The next message; none at the end.
    ///
    /// # Errors
    /// Where the connection broke, or what came is no message.
    pub(super) async fn message(&mut self) -> Result<Option<DeltaDiscoveryRequest>, Status> {
        match self {
            Self::Delta(requests) => requests.message().await,
            Self::World(requests) => requests.recv().await.transpose(),
        }
    }
}

/// Translates both ways until one of both is gone.
pub(super) async fn translate(
    mut requests: Streaming<DiscoveryRequest>,
    to_session: mpsc::Sender<Result<DeltaDiscoveryRequest, Status>>,
    mut from_session: mpsc::Receiver<Result<Response, Status>>,
    responses: mpsc::Sender<Result<DiscoveryResponse, Status>>,
) {
    let mut world = World::default();
    loop {
        let told = tokio::select! {
            request = requests.message() => match request {
                Ok(Some(request)) => world.ask(request),
                Ok(None) => return,
                Err(status) => {
                    // Gone or not, the stream is over.
                    let _ = to_session.send(Err(status)).await;
                    return;
                }
            },
            response = from_session.recv() => match response {
                Some(Ok(response)) => world.answer(response.into_message()),
                Some(Err(status)) => {
                    let _ = responses.send(Err(status)).await;
                    return;
                }
                None => return,
            },
            () = responses.closed() => return,
        };
        if let Some(request) = told.request
            && to_session.send(Ok(request)).await.is_err()
        {
            return;
        }
        if let Some(response) = told.response
            && responses.send(Ok(response)).await.is_err()
        {
            return;
        }
    }
}
