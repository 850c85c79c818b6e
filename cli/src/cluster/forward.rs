//! One exchange over a forwarded port: Kubernetes' port-forward protocol `v4.channel.k8s.io` over a WebSocket (RFC 6455).
//!
//! Our own, because one request and one answer take a hundred lines, and the library that kube uses for it brings a second
//! version of its random numbers into the workspace. What this relies on: the connection to the API server is TLS and
//! authenticated, so neither the handshake's hash nor an unpredictable mask protects anything here.

use kube::{Client, client::Body};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Any 16 bytes, base64: the server returns their hash, which proves nothing that TLS has not proved.
const KEY: &str = "Y3VsdmVydCBmb3J3YXJkcw==";
/// RFC 6455, section 5.2.
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
/// Bytes. API servers and what may be in front of them take far longer ones, each by another measure.
const LONGEST_FRAME: usize = 32 << 10;
const CONTROL: u8 = 8;

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardError {
    /// The API server did not take the request.
    #[error("{0}")]
    Api(#[source] Box<kube::Error>),
    /// It was not made well; a bug.
    #[error("{0}")]
    Request(#[from] http::Error),
    /// The API server did not switch to a WebSocket.
    #[error("the API server does not forward the port: {0}")]
    Refused(String),
    /// The node could not reach the port.
    #[error("the node does not reach the port: {0}")]
    Port(String),
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The switch to a WebSocket broke.
    #[error("{0}")]
    Upgrade(#[from] hyper::Error),
}

/// Sends `request` to a port of a pod and gives all that comes back until the pod closes.
pub(super) async fn exchange(
    client: &Client,
    namespace: &str,
    pod: &str,
    port: u16,
    request: &[u8],
    longest: usize,
) -> Result<Vec<u8>, ForwardError> {
    let uri = format!("/api/v1/namespaces/{namespace}/pods/{pod}/portforward?ports={port}");
    let upgrade = http::Request::get(uri)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", KEY)
        .header("sec-websocket-protocol", "v4.channel.k8s.io")
        .body(Body::empty())?;
    let response = client.send(upgrade).await.map_err(|e| ForwardError::Api(Box::new(e)))?;
    if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        return Err(ForwardError::Refused(response.status().to_string()));
    }
    let mut stream = hyper_util::rt::TokioIo::new(hyper::upgrade::on(response).await?);
    for part in request.chunks(LONGEST_FRAME) {
        stream.write_all(&frame(part)).await?;
    }
    let mut received = Received::default();
    let mut bytes = vec![0; 64 << 10];
    while !received.is_over && received.data.len() < longest {
        let count = match stream.read(&mut bytes).await {
            Ok(count) => count,
            // The API server ends a forwarded connection as it likes, often without the closing frames of either layer.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !received.data.is_empty() => 0,
            Err(error) => return Err(error.into()),
        };
        if count == 0 {
            break;
        }
        received.take(&bytes[..count]);
    }
    match received.error.is_empty() {
        true => Ok(received.data),
        false => Err(ForwardError::Port(
            String::from_utf8_lossy(&received.error).trim().to_owned(),
        )),
    }
}

/// One binary frame to the server on channel 0, the first port's data. A client's frame has a mask; ours changes nothing.
fn frame(data: &[u8]) -> Vec<u8> {
    const MASKED: u8 = 0x80;
    let length = data.len() + 1;
    let mut frame = vec![0x80 | BINARY];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => frame.push(MASKED | short),
        (_, Ok(middle)) => {
            frame.push(MASKED | 126);
            frame.extend(middle.to_be_bytes());
        }
        _ => {
            frame.push(MASKED | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0, 0, 0, 0, 0]); // the mask, then the channel
    frame.extend_from_slice(data);
    frame
}

/// What has come from the server so far.
#[derive(Debug, Default)]
struct Received {
    /// Not yet a whole frame.
    rest: Vec<u8>,
    /// A message's first fragments.
    fragments: Vec<u8>,
    /// Whether each channel has told its port, which is its first message.
    has_told_port: [bool; 2],
    /// Channel 0.
    data: Vec<u8>,
    /// Channel 1.
    error: Vec<u8>,
    is_over: bool,
}

impl Received {
    fn take(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        while let Some((head, payload)) = whole_frame(&self.rest) {
            let end = payload.end;
            let (is_last, opcode) = (head & 0x80 != 0, head & 0x0f);
            if opcode == CLOSE {
                self.is_over = true;
            } else if opcode < CONTROL {
                let fragment = self.rest[payload].to_vec();
                self.fragments.extend(fragment);
                if is_last {
                    self.message();
                }
            }
            self.rest.drain(..end);
        }
    }

    /// A whole message: a channel's number, then its bytes; on a channel's first one, the port's.
    fn message(&mut self) {
        let message = std::mem::take(&mut self.fragments);
        let Some((&channel, bytes)) = message.split_first() else {
            return;
        };
        let Some(has_told_port) = self.has_told_port.get_mut(usize::from(channel)) else {
            return;
        };
        let bytes = if std::mem::replace(has_told_port, true) {
            bytes
        } else {
            bytes.get(2..).unwrap_or_default()
        };
        match channel {
            0 => self.data.extend_from_slice(bytes),
            _ => self.error.extend_from_slice(bytes),
        }
    }
}

/// The first frame's head and where its payload is, when all of it is there. A server's frames have no mask.
fn whole_frame(bytes: &[u8]) -> Option<(u8, std::ops::Range<usize>)> {
    let (head, short) = (*bytes.first()?, bytes.get(1)? & 0x7f);
    let (begin, length) = match short {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    let end = usize::try_from(length).ok()?.checked_add(begin)?;
    (bytes.len() >= end).then_some((head, begin..end))
}

#[cfg(test)]
mod tests {
    use super::{Received, frame};

    /// As a server frames: no mask.
    fn served(opcode: u8, is_last: bool, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![opcode | if is_last { 0x80 } else { 0 }];
        match u8::try_from(payload.len()) {
            Ok(short) if short < 126 => frame.push(short),
            _ => {
                frame.push(126);
                frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        frame
    }

    fn whole() -> Vec<u8> {
        let long = [&[0][..], &[b'x'; 300]].concat();
        let parts = [
            served(2, true, &[0, 0x98, 0x3a]),
            served(2, true, &[1, 0x98, 0x3a]),
            served(2, true, b"\0HTTP"),
            served(9, true, b"ping"),
            served(2, false, b"\0/1"),
            served(0, true, b".1"),
            served(2, true, &long),
            served(8, true, &[]),
        ];
        parts.concat()
    }

    #[test]
    fn an_answer_is_the_same_however_it_is_cut() {
        for size in [1, 2, 3, 7, 1000] {
            let mut received = Received::default();
            whole().chunks(size).for_each(|chunk| received.take(chunk));
            assert!(received.data.starts_with(b"HTTP/1.1xxx"), "{size}");
            assert_eq!(received.data.len(), 308);
            assert!(received.error.is_empty() && received.is_over);
        }
    }

    #[test]
    fn an_error_of_the_node_is_kept_apart() {
        let mut received = Received::default();
        received.take(&served(2, true, &[1, 0x98, 0x3a]));
        received.take(&served(2, true, b"\x01connection refused"));
        assert_eq!(received.error, b"connection refused");
        assert!(received.data.is_empty());
    }

    #[test]
    fn a_request_is_one_masked_frame_on_the_first_channel() {
        assert_eq!(frame(b"GET"), b"\x82\x84\0\0\0\0\0GET");
        assert_eq!(frame(&[7; 200])[..4], [0x82, 0xfe, 0, 201]);
    }

    #[test]
    fn garbage_is_no_frame_and_no_panic() {
        let mut received = Received::default();
        received.take(&[0x82, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]);
        received.take(&[0x82, 0x00]);
        assert!(received.data.is_empty());
    }
}
