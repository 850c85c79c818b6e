//! One HBONE connection.
//!
//! This file is the way in: TLS records, and the few things that concern the connection as a whole. What received frames do is in
//! `incoming` and `headers`, what the owner asks for is in `outgoing`; both work on `Core`, the HTTP/2 state, which knows nothing of records.
mod core;
mod headers;
mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;

use std::io::{self, IoSliceMut};

use self::core::Core;
use crate::frame::Parser;
use crate::output::{self, Output};
use crate::protection::{Message, Protection};
use crate::{
    Authority, Config, ErrorCode, OpenError, ProtocolError, Role, Sink, StreamId, TlsError, TrafficKeys, frame, record,
};

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

/// One HBONE connection: HTTP/2 over TLS 1.3 records, without I/O. See the crate's page for how it is used.
pub struct Connection {
    parser: Parser,
    core: Core,
    /// None: no TLS.
    protection: Option<Protection>,
    /// The peer sent its close_notify.
    closed: bool,
    failed: Option<ProtocolError>,
}

/// Records that may be under way when the key is due to change: what one full output holds, with room to spare.
const REKEY_MARGIN: u64 = 1024;

impl Connection {
    /// Most slices that [`fill`](Self::fill) gives to its reader.
    pub const MAX_SLICES: usize = output::MAX_SLICES;

    /// A connection over the keys of a finished handshake. The opening frames are queued at once.
    pub fn new(role: Role, keys: TrafficKeys, config: &Config) -> Self {
        let limit = keys.limit.saturating_sub(REKEY_MARGIN).min(config.rekey_after);
        let output = Output::new(Some((keys.tx, limit)));
        Self::build(role, output, Some(Protection::new(keys.rx, keys.renewal)), config)
    }

    /// A connection without TLS: HTTP/2 bytes as they are, for tests, fuzzing and measurements.
    pub fn plaintext(role: Role, config: &Config) -> Self {
        Self::build(role, Output::new(None), None, config)
    }

    fn build(role: Role, output: Output, protection: Option<Protection>, config: &Config) -> Self {
        let parser = Parser::new(role == Role::Server, config.max_frame, config.max_header_list);
        Self {
            parser,
            core: Core::new(role, output, config),
            protection,
            closed: false,
            failed: None,
        }
    }

    /// Follows what was received. `buf` holds TLS records from the first byte that was not consumed before; whole records are
    /// decrypted in place and told to `sink`. Returns the bytes consumed: keep the rest (less than one record, at most 16,645 bytes),
    /// append what is read next, and call again.
    ///
    /// After each call look at [`is_closed`](Self::is_closed) and flush the output.
    ///
    /// # Errors
    /// The connection is over: flush [`output`](Self::output), which says why to the peer, and close. Streams are not told one by one.
    pub fn receive<'b>(&mut self, buf: &'b mut [u8], sink: &mut impl Sink<'b>) -> Result<usize, ProtocolError> {
        let whole = buf.len();
        if self.closed {
            return Ok(whole);
        }
        let result = match &self.failed {
            Some(error) => return Err(error.clone()),
            None if self.protection.is_some() => self.receive_records(buf, sink).map(|rest| whole - rest),
            None => self.receive_frames(buf, sink).map(|()| whole),
        };
        let result = match self.core.output.failure() {
            Some(error) => Err(error.clone().into()),
            None => result,
        };
        if let Err(error) = &result {
            self.fail(error.clone());
        }
        result
    }

    /// Returns how many bytes are left over.
    fn receive_records<'b>(&mut self, buf: &'b mut [u8], sink: &mut impl Sink<'b>) -> Result<usize, ProtocolError> {
        let mut rest = buf;
        while let Some(record) = record::split(&mut rest)? {
            let Some(protection) = &mut self.protection else { break };
            match protection.open(record)? {
                // 22 bytes that cost an AEAD operation and say nothing must not come without end.
                Message::Data([]) | Message::Handled => self.core.idle_frame()?,
                Message::Data(plaintext) => self.receive_frames(plaintext, sink)?,
                Message::KeyUpdateRequested => {
                    self.core.owe_answer()?;
                    self.update_key()?;
                }
                Message::KeyUpdated => self.core.owe_answer()?,
                Message::Close => {
                    self.closed = true;
                    return Ok(0);
                }
            }
        }
        Ok(rest.len())
    }

    fn receive_frames<'b>(&mut self, plaintext: &'b [u8], sink: &mut impl Sink<'b>) -> Result<(), ProtocolError> {
        let mut rest = plaintext;
        while let Some(piece) = self.parser.next(&mut rest)? {
            self.core.receive(piece, sink)?;
        }
        Ok(())
    }

    /// Says why it is over, as far as the peer can still understand it.
    fn fail(&mut self, error: ProtocolError) {
        let alert = match &error {
            ProtocolError::Tls(error) => error.alert(),
            _ => {
                self.core.send_go_away(self.core.last_peer, error.code());
                Some(0)
            }
        };
        self.core.output.finish(alert.unwrap_or(0));
        self.failed = Some(error);
    }

    /// Client: opens a stream to `authority`. Data may be sent at once, before the answer.
    ///
    /// Header names must be lower case. A value that repeats from stream to stream (`baggage`) costs one byte after the first time.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&mut self, authority: &Authority, headers: &[(&str, &str)]) -> Result<StreamId, OpenError> {
        self.core.open(authority, headers)
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

    /// Ends the connection for a reason of the owner's: GOAWAY with this code, then close_notify. Flush, then close.
    pub fn abort(&mut self, code: ErrorCode) {
        self.core.send_go_away(self.core.last_peer, code);
        self.core.output.finish(0);
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

    /// Says that nothing more will be sent at all (TLS close_notify), after what is queued. Everything sent later is dropped.
    pub fn close(&mut self) {
        self.core.output.finish(0);
    }

    /// Asks the peer for a sign of life; the answer is [`Sink::pong`].
    pub fn ping(&mut self, payload: [u8; 8]) {
        self.core.ping(payload);
    }

    /// Everything that is to be written to the socket. Ends the open record, so call it once per round, when all is gathered.
    pub fn output(&mut self) -> &[u8] {
        if self.core.output.wants_key_update()
            && let Err(error) = self.update_key()
        {
            self.fail(error.into());
        }
        self.core.output.bytes()
    }

    fn update_key(&mut self) -> Result<(), TlsError> {
        match &mut self.protection {
            Some(protection) => self.core.output.update_key(&mut protection.renewal),
            None => Ok(()),
        }
    }

    /// The first `n` bytes of [`output`](Self::output) have been written. Gives the buffer back when all has.
    pub fn written(&mut self, n: usize) {
        if self.core.output.advance(n) {
            self.core.answers_taken();
        }
    }

    /// Whether there is anything to write.
    pub fn has_output(&self) -> bool {
        self.core.output.len() > 0
    }

    /// Bytes to write, about.
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

    /// Whether either side said that it takes no new streams, or stream numbers are used up.
    pub fn is_going_away(&self) -> bool {
        self.failed.is_some() || self.closed || self.core.is_going_away()
    }

    /// Whether the peer has sent its close_notify: nothing more comes. An end of the socket without it was cut off.
    pub fn is_closed(&self) -> bool {
        self.closed
    }
}

const _: () = assert!(frame::MAX_SENT == 16_375, "the documentation of `fill` says so");
