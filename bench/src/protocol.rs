//! What the two applications say to each other.
//!
//! A connection's first byte says what it is for. In [`EXCHANGE`] and [`ONCE`] the client sends messages of
//! [`MESSAGE`] bytes, each answered by one of the same length; after one answer to [`ONCE`] the server closes, so that
//! waiting states stay on accepting sides and no client runs out of ports. In [`SINK`] the server swallows everything up
//! to the end of the stream and answers with the number of bytes, 8 bytes big endian. In [`SOURCE`] it sends until the
//! client closes. Over UDP it answers each query of DNS by one address.

/// A stream that the server swallows.
pub(crate) const SINK: u8 = b'S';
/// A stream that the server sends.
pub(crate) const SOURCE: u8 = b'D';
/// Requests and answers, any number.
pub(crate) const EXCHANGE: u8 = b'R';
/// One request, one answer, closed by the server.
pub(crate) const ONCE: u8 = b'C';
/// The length of a request and of an answer, bytes.
pub(crate) const MESSAGE: usize = 1024;
/// The name that is asked for, in the form of RFC 1035 section 3.1. No object of the mesh knows it.
pub(crate) const NAME: &[u8] = b"\x02db\x07example\x04test\x00";
