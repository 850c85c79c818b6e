//! One HTTP/2 connection.
//!
//! This file is the way in. What received frames do is in `incoming` and `headers`, what the owner asks for is in `outgoing`; both work on
//! `Core`, the state.
mod core;
mod headers;
mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;

use std::io::{self, IoSliceMut};

use self::core::Core;
use crate::frame::{self, Parser};
use crate::output::{self, Output};
use crate::{Config, ErrorCode, Limit, OpenError, ProtocolError, Role, Seal, Sink, StreamId};

/// What [`Connection::fill`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Nothing can be sent on this stream now ([`Connection::send_capacity`] is 0); nothing was read.
    Blocked,
    /// The reader gave nothing: the application sends no more. Call [`Connection::finish`].
    End,
    /// So many bytes were read and framed.
    Bytes(usize),
}

/// One HTTP/2 connection without I/O, whose output `S` seals. See the crate's page for how it is used.
pub struct Connection<S: Seal> {
    parser: Parser,
    core: Core<S>,
    failed: Option<ProtocolError>,
}

impl<S: Seal> Connection<S> {
    /// Most slices that [`fill`](Self::fill) gives to its reader.
    pub const MAX_SLICES: usize = output::MAX_SLICES;

    /// A connection whose opening frames are queued at once.
    pub fn new(role: Role, seal: S, config: &Config) -> Self {
        Self {
            parser: Parser::new(role == Role::Server, config.max_frame, config.max_header_list),
            core: Core::new(role, Output::new(seal), config),
            failed: None,
        }
    }

    /// Follows what was received, wherever it is cut, and tells `sink` what it says.
    ///
    /// # Errors
    /// The connection is over: a GOAWAY that says why is queued. Call [`end_output`](Self::end_output), flush [`output`](Self::output), and
    /// close. Streams are not told one by one.
    #[inline]
    pub fn receive<'b>(&mut self, bytes: &'b [u8], sink: &mut impl Sink<'b>) -> Result<(), ProtocolError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.follow(bytes, sink);
        if let Err(error) = &result {
            self.fail(error.clone());
        }
        result
    }

    fn follow<'b>(&mut self, bytes: &'b [u8], sink: &mut impl Sink<'b>) -> Result<(), ProtocolError> {
        let mut rest = bytes;
        while let Some(piece) = self.parser.next(&mut rest)? {
            self.core.receive(piece, sink)?;
        }
        Ok(())
    }

    fn fail(&mut self, error: ProtocolError) {
        self.core.send_go_away(self.core.last_peer, error.code());
        self.failed = Some(error);
    }

    /// Something came below HTTP/2 that carries nothing: it counts as an empty frame does.
    ///
    /// # Errors
    /// Too many in a row; as for [`receive`](Self::receive).
    pub fn count_idle(&mut self) -> Result<(), ProtocolError> {
        let counted = self.core.idle_frame();
        self.counted(counted)
    }

    /// Something came below HTTP/2 that asks for an answer or as much work: it counts as a PING does.
    ///
    /// # Errors
    /// Too many before answers were taken; as for [`receive`](Self::receive).
    pub fn count_answer(&mut self) -> Result<(), ProtocolError> {
        let counted = self.core.owe_answer();
        self.counted(counted)
    }

    fn counted(&mut self, counted: Result<(), Limit>) -> Result<(), ProtocolError> {
        counted.map_err(|limit| {
            let error = ProtocolError::from(limit);
            self.fail(error.clone());
            error
        })
    }

    /// Client: opens a stream with these pseudo-headers, then these headers. Data may be sent at once, before the answer.
    ///
    /// Header names must be lower case. A value that repeats from stream to stream costs one byte after the first time.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&mut self, pseudo: &[(&str, &str)], headers: &[(&str, &str)]) -> Result<StreamId, OpenError> {
        self.core.open(pseudo, headers)
    }

    /// Server: answers a stream. `end` ends our direction at once (a refusal). Does nothing for a stream that is gone.
    pub fn respond(&mut self, id: StreamId, status: u16, headers: &[(&str, &str)], end: bool) {
        self.core.respond(id, status, headers, end);
    }

    /// Bytes that can be sent on this stream now: the least of its window, the connection's window and the room in the output.
    /// Between streams that compete, divide [`connection_capacity`](Self::connection_capacity).
    pub fn send_capacity(&self, id: StreamId) -> usize {
        self.core.send_capacity(id)
    }

    /// Bytes that can be sent on all streams together now: the lesser of the connection's window and the room in the output.
    pub fn connection_capacity(&self) -> usize {
        self.core.connection_capacity()
    }

    /// Sends without a copy: `read` is given places in the output buffer, at most `max` bytes together, where payload belongs (at most
    /// 16,375 bytes each, at most [`MAX_SLICES`](Self::MAX_SLICES)), fills them in order (`readv`), and returns how many bytes it read.
    ///
    /// # Errors
    /// Those of `read`; nothing is sent then.
    #[inline]
    pub fn fill(
        &mut self,
        id: StreamId,
        max: usize,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> io::Result<usize>,
    ) -> io::Result<Fill> {
        self.core.fill(id, max, read)
    }

    /// Sends by copying. Returns how many bytes were taken, up to [`send_capacity`](Self::send_capacity).
    pub fn send(&mut self, id: StreamId, data: &[u8]) -> usize {
        self.core.send(id, data)
    }

    /// Ends our direction of a stream; the peer's may go on. Does nothing when it has ended.
    pub fn finish(&mut self, id: StreamId) {
        self.core.finish(id);
    }

    /// Ends a stream in both directions. Nothing more is told about it. Does nothing for a stream that is gone.
    pub fn reset(&mut self, id: StreamId, code: ErrorCode) {
        self.core.reset(id, code);
    }

    /// The application took `n` bytes of a stream's data (or they were thrown away): the peer gets credit for as many. Harmless for
    /// streams that are gone.
    pub fn release(&mut self, id: StreamId, n: usize) {
        self.core.release(id, n);
    }

    /// Withholds all credit of the connection, or no longer: the owner knows of memory that this connection does not. Credit of
    /// single streams is the owner's to give anyway. Returns whether there is something to send.
    pub fn withhold(&mut self, on: bool) -> bool {
        self.core.withhold(on)
    }

    /// Whether the peer's first SETTINGS have come and ours are acknowledged. RFC 9113 section 6.5.3 asks for a limit in time.
    pub fn is_greeted(&self) -> bool {
        self.core.peer.known && self.core.peer.acknowledged
    }

    /// Says why the connection ends for a reason of the owner's: a GOAWAY with this code. Call [`end_output`](Self::end_output) next.
    pub fn abort(&mut self, code: ErrorCode) {
        self.core.send_go_away(self.core.last_peer, code);
    }

    /// Takes no new streams and says so; those that are open go on. Close when [`is_drained`](Self::is_drained).
    pub fn go_away(&mut self) {
        self.core.go_away();
    }

    /// Whether a [`go_away`](Self::go_away) has taken its full course: no stream is open and none can arrive any more. A peer that
    /// does not answer our PING keeps a server from knowing; have a deadline when [`streams`](Self::streams) is 0.
    pub fn is_drained(&self) -> bool {
        self.core.is_drained()
    }

    /// Asks the peer for a sign of life; the answer is [`Sink::pong`].
    pub fn ping(&mut self, payload: [u8; 8]) {
        self.core.ping(payload);
    }

    /// Queues a message of the layer below, in a record of its own, which [`Seal::seal`] is told by `content`.
    pub fn message(&mut self, content: u8, message: &[u8]) {
        self.core.output.message(content, message);
    }

    /// Nothing is sent after what is queued: everything later is dropped.
    pub fn end_output(&mut self) {
        self.core.output.finish();
    }

    /// Whether [`end_output`](Self::end_output) was called, or a record could not be sealed.
    pub fn is_output_ended(&self) -> bool {
        self.core.output.is_finished()
    }

    /// The layer below.
    pub fn seal(&self) -> &S {
        self.core.output.seal()
    }

    /// The layer below, to change its key. What is queued so far is sealed, as far as it was ended by a [`message`](Self::message).
    pub fn seal_mut(&mut self) -> &mut S {
        self.core.output.seal_mut()
    }

    /// Why a record could not be sealed. Nothing more is sent then.
    pub fn seal_failure(&self) -> Option<&S::Error> {
        self.core.output.failure()
    }

    /// Everything that is to be written to the socket. Ends the open record, so call it once per round, when all is gathered.
    pub fn output(&mut self) -> &[u8] {
        self.core.output.bytes()
    }

    /// The first `n` bytes of [`output`](Self::output) have been written. Gives the buffer back when all has.
    pub fn written(&mut self, n: usize) {
        if self.core.output.advance(n) {
            self.core.answers_taken();
        }
    }

    /// Bytes to write, about: a record that is open counts without its trailer.
    pub fn output_len(&self) -> usize {
        self.core.output.len()
    }

    /// Streams that are open in at least one direction.
    pub fn streams(&self) -> usize {
        self.core.streams.len()
    }

    /// Client: whether [`open`](Self::open) would work.
    pub fn can_open(&self) -> bool {
        self.core.may_open().is_ok()
    }

    /// Whether it is over, either side said that it takes no new streams, or stream numbers are used up.
    pub fn is_going_away(&self) -> bool {
        self.failed.is_some() || self.core.is_going_away()
    }
}

const _: () = assert!(frame::MAX_SENT == 16_375, "the documentation of `fill` says so");
