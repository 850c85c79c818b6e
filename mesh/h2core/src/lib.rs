//! HTTP/2 (RFC 9113) as a state machine without I/O, whose output may be sealed where it lies.
//!
//! [`Connection::receive`] follows the frames in what the peer sent and tells a [`Sink`] what they say; payload is handed on as slices
//! of the caller's buffer. What is to be sent gathers in one output buffer: [`Connection::fill`] lets the caller read application bytes
//! straight into the places from which they will be sent, and [`Connection::output`] gives everything to one `write`.
//!
//! A layer below (TLS) takes part through [`Seal`]: the buffer leaves its records room for a header and a trailer, and has them
//! sealed in place. [`Plain`] is none.
//!
//! What is served is what tunnels need: requests and answers with headers, DATA in both directions, windows, PING, GOAWAY, and a bound on
//! everything that a peer can ask for ([`Config`], [`Limit`]). Push and priorities are not; nor are trailers, a stream with those is
//! reset. Whatever a peer does wrong ends in a [`ProtocolError`] (the connection) or a reset (one stream), each with a code of RFC 9113.
//!
//! Rooms, from the wire inwards: `frame` (framing), `hpack` and `header` (header blocks), `flow` (windows), `stream`, `connection`; beside
//! them `output` and `seal` (the buffer).
#![forbid(unsafe_code)]

mod buffers;
mod config;
mod connection;
mod error;
mod flow;
mod frame;
mod header;
mod hpack;
mod output;
mod seal;
mod sink;
mod stream;

pub use buffers::release_unused;
pub use config::{Config, Role};
pub use connection::{Connection, Fill};
pub use error::{ErrorCode, Limit, OpenError, ProtocolError};
pub use header::{BadHeaders, Request, Response};
pub use seal::{MAX_OVERHEAD, MAX_PLAINTEXT, Plain, Seal};
pub use sink::{Sink, StreamId};
