//! A peer of the tunnel that writes what it likes: HTTP/2 frames made by hand, inside mutual TLS.

use crate::{authority::Leaf, tunnel};
use culvert_lab::Pod;
use rustls::{ClientConnection, StreamOwned};
use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// What a client sends first (RFC 9113 section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames (RFC 9113 section 6).
pub mod kind {
    #![allow(missing_docs, reason = "the names are those of the RFC")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 4;
/// Flag of SETTINGS and PING.
pub const ACK: u8 = 1;
/// Flag of HEADERS and DATA.
pub const END_STREAM: u8 = 1;

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header block of literals without indexing (RFC 7541 section 6.2.2). Names and values of less than 127 bytes.
pub fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "this needs an integer of more than one byte");
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// HEADERS of a `CONNECT`, whole; `flags` beside END_HEADERS.
pub fn connect(stream: u32, flags: u8, authority: &str) -> Vec<u8> {
    let block = block(&[(":method", "CONNECT"), (":authority", authority)]);
    frame(kind::HEADERS, END_HEADERS | flags, stream, &block)
}

/// WINDOW_UPDATE.
pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// A frame that came.
#[derive(Debug)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// All of it.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Takes the first frame away from what was received; none where it is not there as a whole.
    pub(crate) fn take(received: &mut Vec<u8>) -> Option<Self> {
        let (&[a, b, c, kind, flags, s, t, u, v], rest) = received.split_first_chunk::<9>()?;
        let payload = rest.get(..u32::from_be_bytes([0, a, b, c]) as usize)?.to_vec();
        received.drain(..9 + payload.len());
        Some(Self {
            kind,
            flags,
            stream: u32::from_be_bytes([s & 0x7f, t, u, v]),
            payload,
        })
    }

    /// The error code of RST_STREAM and GOAWAY, which ends their fixed part.
    pub fn code(&self) -> u32 {
        let at = if self.kind == kind::GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// An open connection to a tunnel port.
pub struct RawPeer {
    tls: StreamOwned<ClientConnection, TcpStream>,
    received: Vec<u8>,
}

impl RawPeer {
    /// Shakes hands with a pod's tunnel port from another pod's namespace (not captured), and says the preface and SETTINGS with
    /// these entries.
    ///
    /// # Errors
    /// When the connection or the handshake fails.
    pub fn dial(from: &Pod, to: SocketAddr, leaf: Leaf, settings: &[(u16, u32)]) -> io::Result<Self> {
        let patience = Duration::from_secs(10);
        let socket = from.run(|| TcpStream::connect_timeout(&to, patience)).unwrap()?;
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(patience))?;
        socket.set_nodelay(true)?;
        let mut peer = Self {
            tls: StreamOwned::new(tunnel::client(Some(leaf)), socket),
            received: Vec::new(),
        };
        let mut payload = Vec::new();
        for (number, value) in settings {
            payload.extend_from_slice(&number.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        // The acknowledgement is of what the server says first.
        let settings = [
            PREFACE,
            &frame(kind::SETTINGS, 0, 0, &payload),
            &frame(kind::SETTINGS, ACK, 0, &[]),
        ];
        peer.send(&settings.concat())?;
        Ok(peer)
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the connection is broken, or takes nothing for ten seconds.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.write_all(bytes)?;
        self.tls.flush()
    }

    /// The next frame; none at the connection's end, be it proper or not.
    pub fn next_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Frame::take(&mut self.received) {
                return Some(frame);
            }
            let mut buffer = [0; 16 << 10];
            match self.tls.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// The next frame for which this holds; none at the end.
    pub fn find(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next_frame()?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// Opens a stream and waits for a 200.
    pub fn open(&mut self, stream: u32, authority: &str) {
        self.send(&connect(stream, 0, authority)).unwrap();
        let answer = self.find(|frame| frame.kind == kind::HEADERS && frame.stream == stream);
        let answer = answer.unwrap_or_else(|| panic!("no answer to CONNECT {authority}"));
        // Index 8 of the static table is `:status: 200` (RFC 7541 appendix A).
        assert_eq!(answer.payload.first(), Some(&0x88), "{answer:?}");
    }

    /// Sends what `more` gives, again and again, until the peer says GOAWAY or closes; the code of the GOAWAY. `reads` says whether
    /// what it answers meanwhile is read.
    ///
    /// # Panics
    /// When the peer does neither within `patience`.
    pub fn flood(mut self, patience: Duration, reads: bool, mut more: impl FnMut(&mut Self) -> Vec<u8>) -> Option<u32> {
        let until = Instant::now() + patience;
        loop {
            assert!(Instant::now() < until, "the flood is neither refused nor cut off");
            let bytes = more(&mut self);
            if self.send(&bytes).is_err() {
                break;
            }
            if reads && let Some(code) = self.said_goaway() {
                return Some(code);
            }
        }
        self.find(|frame| frame.kind == kind::GOAWAY).map(|frame| frame.code())
    }

    /// The code of a GOAWAY among what has come by now.
    fn said_goaway(&mut self) -> Option<u32> {
        self.tls.sock.set_nonblocking(true).ok()?;
        let mut buffer = [0; 16 << 10];
        while let Ok(count @ 1..) = self.tls.read(&mut buffer) {
            self.received.extend_from_slice(&buffer[..count]);
        }
        self.tls.sock.set_nonblocking(false).ok()?;
        while let Some(frame) = Frame::take(&mut self.received) {
            if frame.kind == kind::GOAWAY {
                return Some(frame.code());
            }
        }
        None
    }

    /// The next record changes the key, and asks for the same (RFC 8446 section 4.6.3).
    pub fn change_key(&mut self) {
        self.tls.conn.refresh_traffic_keys().unwrap();
    }

    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        &self.tls.sock
    }
}
