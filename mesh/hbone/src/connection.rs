//! One HBONE connection.
use std::io::{self, IoSliceMut};

use crate::{Authority, Config, ErrorCode, OpenError, ProtocolError, Role, Sink, StreamId, TrafficKeys};

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
pub struct Connection {}

#[expect(unused_variables, reason = "signatures first")]
impl Connection {
    /// A connection over the keys of a finished handshake. The opening frames are queued at once.
    pub fn new(role: Role, keys: TrafficKeys, config: &Config) -> Self {
        todo!()
    }

    /// A connection without TLS: HTTP/2 bytes as they are, for tests, fuzzing and measurements.
    pub fn plaintext(role: Role, config: &Config) -> Self {
        todo!()
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
        todo!()
    }

    /// Client: opens a stream to `authority`. Data may be sent at once, before the answer.
    ///
    /// Header names must be lower case. A value that repeats from stream to stream (`baggage`) costs two bytes after the first time.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&mut self, authority: &Authority, headers: &[(&str, &str)]) -> Result<StreamId, OpenError> {
        todo!()
    }

    /// Server: answers a stream. `end` ends our direction at once (a refusal). Does nothing for a stream that is gone.
    pub fn respond(&mut self, id: StreamId, status: u16, headers: &[(&str, &str)], end: bool) {
        todo!()
    }

    /// Bytes that can be sent on this stream now: the least of its window, the connection's window and the room in the output.
    /// Between streams that compete, divide [`connection_capacity`](Self::connection_capacity).
    pub fn send_capacity(&self, id: StreamId) -> usize {
        todo!()
    }

    /// Bytes that can be sent on all streams together now: the lesser of the connection's window and the room in the output.
    pub fn connection_capacity(&self) -> usize {
        todo!()
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
        todo!()
    }

    /// Most slices that [`fill`](Self::fill) gives to its reader.
    pub const MAX_SLICES: usize = 66;

    /// Sends by copying. Returns how many bytes were taken, up to [`send_capacity`](Self::send_capacity).
    pub fn send(&mut self, id: StreamId, data: &[u8]) -> usize {
        todo!()
    }

    /// Ends our direction of a stream; the peer's may go on. Does nothing when it has ended.
    pub fn finish(&mut self, id: StreamId) {
        todo!()
    }

    /// Ends a stream in both directions. Nothing more is told about it. Does nothing for a stream that is gone.
    pub fn reset(&mut self, id: StreamId, code: ErrorCode) {
        todo!()
    }

    /// The application took `n` bytes of a stream's data (or they were thrown away): the peer gets credit for as many. Harmless for
    /// streams that are gone.
    pub fn release(&mut self, id: StreamId, n: usize) {
        todo!()
    }

    /// Takes no new streams and says so; those that are open go on. Close when [`streams`](Self::streams) is 0 (a server: and
    /// [`is_drained`](Self::is_drained), since streams may be under way).
    pub fn go_away(&mut self) {
        todo!()
    }

    /// Whether a [`go_away`](Self::go_away) has taken its full course: no stream is open and none can arrive any more.
    pub fn is_drained(&self) -> bool {
        todo!()
    }

    /// Says that nothing more will be sent at all (TLS close_notify), after what is queued. Everything sent later is dropped.
    pub fn close(&mut self) {
        todo!()
    }

    /// Asks the peer for a sign of life; the answer is [`Sink::pong`].
    pub fn ping(&mut self, payload: [u8; 8]) {
        todo!()
    }

    /// Everything that is to be written to the socket. Ends the open record, so call it once per round, when all is gathered.
    pub fn output(&mut self) -> &[u8] {
        todo!()
    }

    /// The first `n` bytes of [`output`](Self::output) have been written. Gives the buffer back when all has.
    pub fn written(&mut self, n: usize) {
        todo!()
    }

    /// Whether there is anything to write.
    pub fn has_output(&self) -> bool {
        todo!()
    }

    /// Bytes to write, about.
    pub fn output_len(&self) -> usize {
        todo!()
    }

    /// Streams that are open in at least one direction.
    pub fn streams(&self) -> usize {
        todo!()
    }

    /// Client: whether [`open`](Self::open) would work.
    pub fn can_open(&self) -> bool {
        todo!()
    }

    /// Whether either side said that it takes no new streams, or stream numbers are used up.
    pub fn is_going_away(&self) -> bool {
        todo!()
    }

    /// Whether the peer has sent its close_notify: nothing more comes. An end of the socket without it was cut off.
    pub fn is_closed(&self) -> bool {
        todo!()
    }
}
