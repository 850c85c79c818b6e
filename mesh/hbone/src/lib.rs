//! HBONE: HTTP/2 `CONNECT` streams inside mutual TLS 1.3, as a state machine without I/O.
//!
//! The way of a connection through this crate:
//! 1. [`Handshake`] drives rustls over bytes that the caller reads and writes, and ends in [`Established`]: traffic keys and the
//!    peer's certificates.
//! 2. [`Connection`] takes the keys over. [`Connection::receive`] decrypts TLS records where they lie, follows the HTTP/2 frames in
//!    them and tells a [`Sink`] what they say; payload is handed on as slices of the caller's buffer. What is to be sent gathers in one
//!    output buffer: [`Connection::fill`] lets the caller read application bytes straight into the places where they will be sealed
//!    (frame header, record header and record trailer are left room for), and [`Connection::output`] gives everything to one `write`.
//!
//! A `CONNECT` has an [`Authority`] and headers; [`Baggage`] and [`Forwarded`] are the ones that HBONE gives a meaning.
//! Whatever a peer does wrong ends in a [`ProtocolError`] (the connection) or a reset (one stream), each with a code of RFC 9113.
//!
//! Rooms, from the wire inwards: `record` (TLS 1.3 record protection), `frame` (HTTP/2 framing), `header` and `hpack` (header
//! blocks), `flow` (windows), `stream`, `connection`; beside them `protection` (TLS's own messages), `output` (the buffer), `request` and
//! `metadata` (what a `CONNECT` says).
#![forbid(unsafe_code)]

mod config;
mod connection;
mod error;
mod flow;
mod frame;
mod handshake;
mod header;
mod hpack;
mod metadata;
mod output;
mod protection;
mod record;
mod request;
mod sink;
mod stream;

pub use config::{Config, Role};
pub use connection::{Connection, Fill};
pub use error::{ErrorCode, Fault, HandshakeError, Limit, OpenError, ProtocolError, TlsError};
pub use handshake::{Established, Handshake, Progress};
pub use metadata::{Baggage, Forwarded};
pub use record::TrafficKeys;
pub use request::{Authority, BadAuthority, BadRequest, ConnectRequest, Response};
pub use sink::{Sink, StreamId};
