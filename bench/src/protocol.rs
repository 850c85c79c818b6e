//! What the two applications say to each other.
//!
//! A connection's first byte says what it is for. In [`EXCHANGE`] and [`ONCE`] the client sends messages of
//! [`MESSAGE`] bytes, each answered by one of the same length; after one answer to [`ONCE`] the server closes, so that
//! waiting states stay on accepting sides and no client runs out of ports. In [`SINK`] the server swallows everything up
//! to the end of the stream and answers with the number of bytes, 8 bytes big endian.

/// A stream that the server swallows.
pub(crate) const SINK: u8 = b'S';
/// Requests and answers, any number.
pub(crate) const EXCHANGE: u8 = b'R';
/// One request, one answer, closed by the server.
pub(crate) const ONCE: u8 = b'C';
/// The length of a request and of an answer, bytes.
pub(crate) const MESSAGE: usize = 1024;
