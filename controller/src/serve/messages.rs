//! The body of a stream of discovery responses.
//!
//! tonic encodes a message as a whole, and keeps the buffer for the next one: a quarter of a megabyte for each node, for as
//! long as its stream lasts, because the first response was that large. Here a message is encoded in portions, each when
//! the connection asks for it, and nothing is kept.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::vec;

use culvert_proto::discovery::{DeltaDiscoveryResponse, DiscoveryResponse, Resource};
use http_body::{Body, Frame};
use prost::Message as _;
use prost_types::Any;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::codegen::Bytes;
use tonic::codegen::http::HeaderMap;

/// Bytes after which a portion ends.
const PORTION: usize = 16 << 10;

/// A response whose resources are most of it.
pub(super) trait Response: prost::Message + Default + std::fmt::Debug + Unpin {
    /// One of its resources.
    type Resource: prost::Message + std::fmt::Debug + Unpin;

    /// Its resources.
    fn resources(&mut self) -> &mut Vec<Self::Resource>;
}

impl Response for DeltaDiscoveryResponse {
    type Resource = Resource;

    fn resources(&mut self) -> &mut Vec<Resource> {
        &mut self.resources
    }
}

impl Response for DiscoveryResponse {
    type Resource = Any;

    fn resources(&mut self) -> &mut Vec<Any> {
        &mut self.resources
    }
}

/// Responses as they go over the wire, until the sender is gone or sends an error.
#[derive(Debug)]
pub(super) struct Messages<R: Response> {
    responses: mpsc::Receiver<Result<R, Status>>,
    current: Option<Portions<R>>,
    has_ended: bool,
}

impl<R: Response> Messages<R> {
    /// The body of what arrives here.
    pub(super) fn new(responses: mpsc::Receiver<Result<R, Status>>) -> Self {
        Self {
            responses,
            current: None,
            has_ended: false,
        }
    }
}

impl<R: Response> Body for Messages<R> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            if let Some(portion) = self.current.as_mut().and_then(Iterator::next) {
                return Poll::Ready(Some(Ok(Frame::data(portion))));
            }
            self.current = None;
            if self.has_ended {
                return Poll::Ready(None);
            }
            let status = match ready!(self.responses.poll_recv(context)) {
                Some(Ok(response)) => {
                    self.current = Some(Portions::new(response));
                    continue;
                }
                Some(Err(status)) => status,
                None => Status::ok(""),
            };
            self.has_ended = true;
            let mut trailers = HeaderMap::new();
            status.add_header(&mut trailers)?;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }
}

/// One message. Protobuf reads messages that are written one after the other as one that has the fields of all of them.
#[derive(Debug)]
struct Portions<R: Response> {
    /// The length, and everything but the resources.
    first: Option<Bytes>,
    resources: vec::IntoIter<R::Resource>,
}

impl<R: Response> Portions<R> {
    fn new(mut response: R) -> Self {
        let length = response.encoded_len();
        let resources = std::mem::take(response.resources()).into_iter();
        let mut first = Vec::with_capacity(5 + response.encoded_len());
        // gRPC's prefix: not compressed, and the length. No response comes near the four gigabytes that it can say.
        first.push(0);
        first.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        first.extend(response.encode_to_vec());
        Self {
            first: Some(first.into()),
            resources,
        }
    }
}

impl<R: Response> Iterator for Portions<R> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let mut portion = R::default();
        let mut length = 0;
        while length < PORTION {
            let Some(resource) = self.resources.next() else { break };
            length += resource.encoded_len();
            portion.resources().push(resource);
        }
        (!portion.resources().is_empty()).then(|| portion.encode_to_vec().into())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn frame(messages: &mut Messages<DeltaDiscoveryResponse>) -> Option<Frame<Bytes>> {
        poll_fn(|context| Pin::new(&mut *messages).poll_frame(context))
            .await
            .map(Result::unwrap)
    }

    #[tokio::test]
    async fn a_large_response_goes_in_portions_that_are_one_message_together_and_the_end_says_how() {
        let resource = |number: usize| Resource {
            name: format!("resource {number}"),
            resource: Some(Any {
                type_url: "type".to_owned(),
                value: vec![1; 500],
            }),
            ..Resource::default()
        };
        let response = DeltaDiscoveryResponse {
            resources: (0..200).map(resource).collect(),
            removed_resources: vec!["gone".to_owned()],
            nonce: "7".to_owned(),
            type_url: "type".to_owned(),
            ..DeltaDiscoveryResponse::default()
        };
        let (sender, receiver) = mpsc::channel(2);
        sender.send(Ok(response.clone())).await.unwrap();
        sender.send(Err(Status::unavailable("stops"))).await.unwrap();
        let mut messages = Messages::new(receiver);
        let (mut wire, mut portions) = (Vec::new(), 0);
        let trailers = loop {
            match frame(&mut messages).await.unwrap().into_data() {
                Ok(portion) => {
                    assert!(portion.len() < 2 * PORTION, "{} bytes at once", portion.len());
                    wire.extend_from_slice(&portion);
                    portions += 1;
                }
                Err(end) => break end.into_trailers().unwrap(),
            }
        };
        assert!(portions > 6, "{portions}");
        assert_eq!(
            wire[..5],
            [&[0][..], &u32::try_from(wire.len() - 5).unwrap().to_be_bytes()].concat()
        );
        assert_eq!(DeltaDiscoveryResponse::decode(&wire[5..]).unwrap(), response);
        assert_eq!(trailers["grpc-status"], "14");
        assert!(frame(&mut messages).await.is_none() && messages.is_end_stream());
    }
}
