//! What a connection tells its owner.
use culvert_h2core::{BadHeaders, ErrorCode, Request, Response, StreamId};

use crate::{BadRequest, ConnectRequest};

/// Receives the events of [`Connection::receive`](crate::Connection::receive), in the order in which they happened.
///
/// `'b` is the life of the buffer given to `receive`: data may be kept until the call has returned and be written with one `writev`.
/// The connection cannot be called from inside a sink; remember what to do and do it after.
pub trait Sink<'b> {
    /// Server: a peer asks for a stream. Answer with [`Connection::respond`](crate::Connection::respond) or
    /// [`reset`](crate::Connection::reset); also a malformed request, whose [`BadRequest::status`] is the answer to give.
    fn connect(&mut self, id: StreamId, request: Result<ConnectRequest, BadRequest>);
    /// Client: the peer's answer to a stream that we opened. Informational answers (1xx) are not told. Data flows after any 2xx; with
    /// another status, the stream only ends.
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

/// Reads requests as what they must be here, `CONNECT`, and passes everything else on.
pub(crate) struct Connects<'s, S>(pub(crate) &'s mut S);

impl<'b, S: Sink<'b>> culvert_h2core::Sink<'b> for Connects<'_, S> {
    fn request(&mut self, id: StreamId, request: Result<Request, BadHeaders>) {
        self.0.connect(id, ConnectRequest::new(request));
    }
    fn response(&mut self, id: StreamId, response: Response) {
        self.0.response(id, response);
    }
    fn data(&mut self, id: StreamId, data: &'b [u8]) {
        self.0.data(id, data);
    }
    fn end(&mut self, id: StreamId) {
        self.0.end(id);
    }
    fn reset(&mut self, id: StreamId, code: ErrorCode) {
        self.0.reset(id, code);
    }
    fn writable(&mut self, id: StreamId) {
        self.0.writable(id);
    }
    fn all_writable(&mut self) {
        self.0.all_writable();
    }
    fn pong(&mut self, payload: [u8; 8]) {
        self.0.pong(payload);
    }
    fn go_away(&mut self, last: StreamId, code: ErrorCode) {
        self.0.go_away(last, code);
    }
}
