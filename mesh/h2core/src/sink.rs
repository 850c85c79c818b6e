//! What a connection tells its owner.
use std::fmt;

use crate::{BadHeaders, ErrorCode, Request, Response};

/// A stream of a connection. Odd: clients open all streams. Never used twice on one connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) u32);

impl StreamId {
    /// The number on the wire.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Receives the events of [`Connection::receive`](crate::Connection::receive), in the order in which they happened.
///
/// `'b` is the life of the buffer given to `receive`: data may be kept until the call has returned and be written with one `writev`.
/// The connection cannot be called from inside a sink; remember what to do and do it after.
pub trait Sink<'b> {
    /// Server: a peer asks for a stream. Answer with [`Connection::respond`](crate::Connection::respond) or
    /// [`reset`](crate::Connection::reset), also where its headers break a rule.
    fn request(&mut self, id: StreamId, request: Result<Request, BadHeaders>);
    /// Client: the peer's answer to a stream that we opened. Informational answers (1xx) are not told.
    fn response(&mut self, id: StreamId, response: Response);
    /// Payload; never empty. Give every byte back with [`Connection::release`](crate::Connection::release) once it is out of our hands.
    fn data(&mut self, id: StreamId, data: &'b [u8]);
    /// The peer sends no more on this stream. Ours may go on. Not told for a stream that is reset.
    fn end(&mut self, id: StreamId);
    /// The stream is gone in both directions: the peer reset it, we did because the peer broke a rule, or a GOAWAY says that the peer
    /// will never process it ([`ErrorCode::RefusedStream`]: it is safe to try again elsewhere).
    fn reset(&mut self, id: StreamId, code: ErrorCode);
    /// The stream's window, which had been used up, opened.
    fn writable(&mut self, id: StreamId);
    /// A window that concerns all streams opened: any of them may be writable.
    fn all_writable(&mut self);
    /// The peer answered a [`Connection::ping`](crate::Connection::ping).
    fn pong(&mut self, payload: [u8; 8]);
    /// The peer wants no new streams on this connection. Streams after `last` have been told as reset.
    fn go_away(&mut self, last: StreamId, code: ErrorCode);
}
