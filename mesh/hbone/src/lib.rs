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
//! HTTP/2 itself is [`culvert_h2core`]'s; its [`Config`], [`StreamId`], [`ErrorCode`] and others are found here, too.
//!
//! A `CONNECT` has an [`Authority`] and headers; [`Baggage`] and [`Forwarded`] are the ones that HBONE gives a meaning.
//! Whatever a peer does wrong ends in a [`ProtocolError`] (the connection) or a reset (one stream), each with a code of RFC 9113.
//!
//! Rooms: `handshake`; `record` (TLS 1.3 record protection, the seal of the output), `protection` (TLS's own messages), `connection`;
//! `request` and `metadata` (what a `CONNECT` says), `sink` (what an owner is told).
#![forbid(unsafe_code)]

mod connection;
mod error;
mod handshake;
mod metadata;
mod protection;
mod record;
mod request;
mod sink;

pub use connection::Connection;
pub use culvert_h2core::{
    Config, ErrorCode, Fill, Limit, OpenError, ProtocolError as Http2Error, Response, Role, StreamId, release_unused,
};
pub use error::{Fault, HandshakeError, ProtocolError, TlsError};
pub use handshake::{Established, Handshake, Progress};
pub use metadata::{Baggage, Forwarded, REASON_HEADER};
pub use record::TrafficKeys;
pub use request::{Authority, BadAuthority, BadRequest, ConnectRequest};
pub use sink::Sink;
