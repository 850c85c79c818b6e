//! The body of a stream of discovery responses.
//!
//! tonic encodes a message as a whole, and keeps the buffer for the next one: a quarter of a megabyte for each node, for as
//! long as its stream lasts, because the first response was that large. Here a message is encoded in portions, each when
//! the connection asks for it, and nothing is kept. Until then a response shares its contents with all others.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::vec;

use culvert_proto::discovery::{DeltaDiscoveryResponse, DiscoveryResponse};
use culvert_xds::server::{self, Sent};
use http_body::{Body, Frame};
use prost::{Message as _, length_delimiter_len};
use prost_types::Any;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::codegen::Bytes;
use tonic::codegen::http::HeaderMap;

/// Bytes after which a portion ends.
const PORTION: usize = 16 << 10;

/// A response whose resources are most of it.
pub(super) trait Response: Unpin {
    /// The message that it is written as.
    type Message: prost::Message + Default;

    /// One of its resources.
    type Resource: std::fmt::Debug + Unpin;

    /// All of it but the resources, and these.
    fn split(self) -> (Self::Message, Vec<Self::Resource>);

    /// How many bytes a resource has as a message.
    fn length(resource: &Self::Resource, type_url: &str) -> usize;

    /// Adds a resource to a message.
    fn add(message: &mut Self::Message, resource: &Self::Resource, type_url: &str);

    /// The type of all resources.
    fn type_url(message: &Self::Message) -> &str;
}

impl Response for server::Response {
    type Message = DeltaDiscoveryResponse;
    type Resource = Sent;

    fn split(mut self) -> (DeltaDiscoveryResponse, Vec<Sent>) {
        let resources = mem::take(&mut self.resources);
        (self.head(), resources)
    }

    fn length(resource: &Sent, type_url: &str) -> usize {
        resource.encoded_len(type_url)
    }

    fn add(message: &mut DeltaDiscoveryResponse, resource: &Sent, type_url: &str) {
        message.resources.push(resource.message(type_url));
    }

    fn type_url(message: &DeltaDiscoveryResponse) -> &str {
        &message.type_url
    }
}

impl Response for DiscoveryResponse {
    type Message = Self;
    type Resource = Any;

    fn split(mut self) -> (Self, Vec<Any>) {
        let resources = mem::take(&mut self.resources);
        (self, resources)
    }

    fn length(resource: &Any, _type_url: &str) -> usize {
        resource.encoded_len()
    }

    fn add(message: &mut Self, resource: &Any, _type_url: &str) {
        message.resources.push(resource.clone());
    }

    fn type_url(message: &Self) -> &str {
        &message.type_url
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
    type_url: String,
}

impl<R: Response> Portions<R> {
    fn new(response: R) -> Self {
        let (head, resources) = response.split();
        let type_url = R::type_url(&head).to_owned();
        let own = head.encoded_len();
        let of_one = |resource| {
            let length = R::length(resource, &type_url);
            // The tag of the field, which is 2 in either kind of response.
            1 + length_delimiter_len(length) + length
        };
        let length: usize = own + resources.iter().map(of_one).sum::<usize>();
        let mut first = Vec::with_capacity(5 + own);
        // gRPC's prefix: not compressed, and the length. No response comes near the four gigabytes that it can say.
        first.push(0);
        first.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        first.extend(head.encode_to_vec());
        Self {
            first: Some(first.into()),
            resources: resources.into_iter(),
            type_url,
        }
    }
}

impl<R: Response> Iterator for Portions<R> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let mut portion = R::Message::default();
        let first = self.resources.next()?;
        let mut length = R::length(&first, &self.type_url);
        R::add(&mut portion, &first, &self.type_url);
        while length < PORTION {
            let Some(resource) = self.resources.next() else { break };
            length += R::length(&resource, &self.type_url);
            R::add(&mut portion, &resource, &self.type_url);
        }
        Some(portion.encode_to_vec().into())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use culvert_xds::server::Entry;

    use super::*;

    async fn frame(messages: &mut Messages<server::Response>) -> Option<Frame<Bytes>> {
        poll_fn(|context| Pin::new(&mut *messages).poll_frame(context))
            .await
            .map(Result::unwrap)
    }

    #[tokio::test]
    async fn a_large_response_goes_in_portions_that_are_one_message_together_and_the_end_says_how() {
        let sent = |number: usize| Sent {
            name: format!("resource {number}").into(),
            entry: Entry {
                digest: 7,
                body: vec![1; 500].into(),
                aliases: Arc::from(["alias".into()]),
            },
            has_aliases: true,
        };
        let response = server::Response {
            type_url: "type",
            nonce: "7".to_owned(),
            resources: (0..200).map(sent).collect(),
            removed: vec!["gone".into()],
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
        assert_eq!(
            DeltaDiscoveryResponse::decode(&wire[5..]).unwrap(),
            response.into_message()
        );
        assert_eq!(trailers["grpc-status"], "14");
        assert!(frame(&mut messages).await.is_none() && messages.is_end_stream());
    }
}
