//! The responses of a configuration stream, read one by one.
//!
//! tonic keeps the buffer of a stream's longest message for as long as the stream lasts: a node would hold room for all policies of the mesh at
//! once, for changes of some hundred bytes. Here a message is read out of the pieces in which it came, and nothing of it is kept.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;

use culvert_proto::discovery::DeltaDiscoveryResponse;
use prost::Message as _;
use prost::bytes::{Buf, Bytes};
use tonic::codegen::Body as _;
use tonic::{Code, Status, body::Body};

/// What stands before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A response may describe a whole large mesh.
const MAX_RESPONSE: usize = 512 * 1024 * 1024;

/// The responses of a stream.
pub(super) struct Responses {
    body: Body,
    pieces: Pieces,
}

impl Responses {
    /// Those in the body of an answer that was a success.
    pub(super) fn new(body: Body) -> Self {
        Self {
            body,
            pieces: Pieces::default(),
        }
    }

    /// The next one; none when the controller has ended the stream in good order. Nothing is lost when it is not waited for.
    pub(super) async fn message(&mut self) -> Result<Option<DeltaDiscoveryResponse>, Status> {
        loop {
            if let Some(message) = self.pieces.message()? {
                return Ok(Some(message));
            }
            let frame = match poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await {
                Some(frame) => frame?,
                None => return Err(Status::unavailable("the stream broke off")),
            };
            match frame.into_data() {
                Ok(data) => self.pieces.push(data),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    return match Status::from_header_map(&trailers) {
                        Some(status) if status.code() != Code::Ok => Err(status),
                        Some(_) if !self.pieces.has_remaining() => Ok(None),
                        _ => Err(Status::unavailable("the stream ended within a response")),
                    };
                }
            }
        }
    }
}

/// Bytes as they came.
#[derive(Debug, Default)]
struct Pieces {
    /// None is empty.
    pieces: VecDeque<Bytes>,
    length: usize,
}

impl Pieces {
    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.length += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Takes a message out, if all of it is there.
    fn message(&mut self) -> Result<Option<DeltaDiscoveryResponse>, Status> {
        let Some(prefix) = self.prefix() else { return Ok(None) };
        let [compressed, length @ ..] = prefix;
        if compressed != 0 {
            return Err(Status::internal("a response is compressed, which was not asked for"));
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_RESPONSE {
            return Err(Status::out_of_range(format!(
                "a response of {length} bytes is longer than the {MAX_RESPONSE} that are allowed"
            )));
        }
        if self.length < PREFIX + length {
            return Ok(None);
        }
        self.advance(PREFIX);
        let message = DeltaDiscoveryResponse::decode(&mut self.take(length));
        message
            .map(Some)
            .map_err(|error| Status::internal(format!("a response cannot be read: {error}")))
    }

    fn prefix(&self) -> Option<[u8; PREFIX]> {
        let mut prefix = [0; PREFIX];
        let mut bytes = self.pieces.iter().flatten();
        for byte in &mut prefix {
            *byte = *bytes.next()?;
        }
        Some(prefix)
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.length
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn advance(&mut self, mut count: usize) {
        self.length = self.length.saturating_sub(count);
        while let Some(first) = self.pieces.front_mut() {
            if first.len() > count {
                first.advance(count);
                break;
            }
            count -= first.len();
            self.pieces.pop_front();
        }
        // Room for the pieces of a long message is not needed again soon.
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(nonce: &str) -> Vec<u8> {
        let message = DeltaDiscoveryResponse {
            nonce: nonce.to_owned(),
            removed_resources: vec!["gone".to_owned(); 3],
            ..DeltaDiscoveryResponse::default()
        };
        let body = message.encode_to_vec();
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn messages_are_read_however_they_are_cut_and_leave_nothing_behind() {
        let wire = [encoded("1"), encoded("2"), encoded("")].concat();
        for size in 1..=wire.len() {
            let mut pieces = Pieces::default();
            let mut nonces = Vec::new();
            for piece in wire.chunks(size) {
                pieces.push(Bytes::copy_from_slice(piece));
                while let Some(message) = pieces.message().unwrap() {
                    nonces.push(message.nonce);
                }
            }
            assert_eq!(nonces, ["1", "2", ""], "in pieces of {size} bytes");
            assert!(!pieces.has_remaining() && pieces.pieces.capacity() == 0);
        }
    }

    #[test]
    fn what_is_compressed_too_long_or_no_message_is_refused() {
        for (wire, code) in [
            (&[1, 0, 0, 0, 0][..], Code::Internal),
            (&[0, 0xff, 0, 0, 0], Code::OutOfRange),
            (&[0, 0, 0, 0, 1, 0xff], Code::Internal),
        ] {
            let mut pieces = Pieces::default();
            pieces.push(Bytes::copy_from_slice(wire));
            assert_eq!(pieces.message().unwrap_err().code(), code, "{wire:?}");
        }
    }
}
