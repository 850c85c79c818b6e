//! One HBONE connection: HTTP/2 inside TLS records, whose streams are `CONNECT`s.
#[cfg(test)]
mod tests;

use std::io::{self, IoSliceMut};

use culvert_h2core::{self as h2core, Config, ErrorCode, Fill, OpenError, Role, StreamId};

use crate::protection::{Message, Protection};
use crate::record::{self, Records};
use crate::sink::Connects;
use crate::{Authority, ProtocolError, Sink, TlsError, TrafficKeys};

/// One HBONE connection: HTTP/2 over TLS 1.3 records, without I/O. See the crate's page for how it is used.
pub struct Connection {
    http2: h2core::Connection<Records>,
    /// None: no TLS.
    protection: Option<Protection>,
    /// The peer sent its close_notify.
    closed: bool,
    failed: Option<ProtocolError>,
}

impl Connection {
    /// Most slices that [`fill`](Self::fill) gives to its reader.
    pub const MAX_SLICES: usize = h2core::Connection::<Records>::MAX_SLICES;

    /// A connection over the keys of a finished handshake. The opening frames are queued at once.
    pub fn new(role: Role, keys: TrafficKeys, config: &Config) -> Self {
        let protection = Protection::new(keys.rx, keys.renewal);
        Self::build(role, Records::new(keys.tx, keys.limit), Some(protection), config)
    }

    /// A connection without TLS: HTTP/2 bytes as they are, for tests, fuzzing and measurements.
    pub fn plaintext(role: Role, config: &Config) -> Self {
        Self::build(role, Records::none(), None, config)
    }

    fn build(role: Role, records: Records, protection: Option<Protection>, config: &Config) -> Self {
        Self {
            http2: h2core::Connection::new(role, records, config),
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
        let mut sink = Connects(sink);
        let result = match &self.failed {
            Some(error) => return Err(error.clone()),
            None if self.protection.is_some() => self.receive_records(buf, &mut sink).map(|rest| whole - rest),
            None => self
                .http2
                .receive(buf, &mut sink)
                .map(|()| whole)
                .map_err(ProtocolError::from),
        };
        let result = match self.http2.seal_failure() {
            Some(error) => Err(error.clone().into()),
            None => result,
        };
        if let Err(error) = &result {
            self.fail(error.clone());
        }
        result
    }

    /// Returns how many bytes are left over.
    fn receive_records<'b>(
        &mut self,
        buf: &'b mut [u8],
        sink: &mut impl h2core::Sink<'b>,
    ) -> Result<usize, ProtocolError> {
        let mut rest = buf;
        while let Some(record) = record::split(&mut rest)? {
            let Some(protection) = &mut self.protection else { break };
            match protection.open(record)? {
                // 22 bytes that cost an AEAD operation and say nothing must not come without end.
                Message::Data([]) | Message::Handled => self.http2.count_idle()?,
                Message::Data(plaintext) => self.http2.receive(plaintext, sink)?,
                Message::KeyUpdateRequested => {
                    self.http2.count_answer()?;
                    self.update_key()?;
                }
                Message::KeyUpdated => self.http2.count_answer()?,
                Message::Close => {
                    self.closed = true;
                    return Ok(0);
                }
            }
        }
        Ok(rest.len())
    }

    /// Says why it is over, as far as the peer can still understand it. HTTP/2 has said its part.
    fn fail(&mut self, error: ProtocolError) {
        let alert = match &error {
            ProtocolError::Tls(error) => error.alert(),
            ProtocolError::Http2(_) => None,
        };
        self.last_word(alert);
        self.failed = Some(error);
    }

    /// Says the last word, an alert or else close_notify. Nothing is taken after it.
    fn last_word(&mut self, alert: Option<u8>) {
        if self.http2.seal().is_sealing() {
            // A warning, or fatal.
            self.http2.message(
                record::ALERT,
                &alert.map_or([1, record::CLOSE_NOTIFY], |alert| [2, alert]),
            );
        }
        self.http2.end_output();
    }

    /// Client: opens a stream to `authority`. Data may be sent at once, before the answer.
    ///
    /// Header names must be lower case. A value that repeats from stream to stream (`baggage`) costs one byte after the first time.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&mut self, authority: &Authority, headers: &[(&str, &str)]) -> Result<StreamId, OpenError> {
        let authority = authority.to_string();
        let pseudo = [(":method", "CONNECT"), (":authority", authority.as_str())];
        self.http2.open(&pseudo, headers)
    }

    /// Server: answers a stream. `end` ends our direction at once (a refusal). Does nothing for a stream that is gone.
    pub fn respond(&mut self, id: StreamId, status: u16, headers: &[(&str, &str)], end: bool) {
        self.http2.respond(id, status, headers, end);
    }

    /// Bytes that can be sent on this stream now: the least of its window, the connection's window and the room in the output.
    /// Between streams that compete, divide [`connection_capacity`](Self::connection_capacity).
    pub fn send_capacity(&self, id: StreamId) -> usize {
        self.http2.send_capacity(id)
    }

    /// Bytes that can be sent on all streams together now: the lesser of the connection's window and the room in the output.
    pub fn connection_capacity(&self) -> usize {
        self.http2.connection_capacity()
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
        self.http2.fill(id, max, read)
    }

    /// Sends by copying. Returns how many bytes were taken, up to [`send_capacity`](Self::send_capacity).
    pub fn send(&mut self, id: StreamId, data: &[u8]) -> usize {
        self.http2.send(id, data)
    }

    /// Ends our direction of a stream; the peer's may go on. Does nothing when it has ended.
    pub fn finish(&mut self, id: StreamId) {
        self.http2.finish(id);
    }

    /// Ends a stream in both directions. Nothing more is told about it. Does nothing for a stream that is gone.
    pub fn reset(&mut self, id: StreamId, code: ErrorCode) {
        self.http2.reset(id, code);
    }

    /// The application took `n` bytes of a stream's data (or they were thrown away): the peer gets credit for as many. Harmless for
    /// streams that are gone.
    pub fn release(&mut self, id: StreamId, n: usize) {
        self.http2.release(id, n);
    }

    /// Withholds all credit of the connection, or no longer: the owner knows of memory that this connection does not. Credit of
    /// single streams is the owner's to give anyway. Returns whether there is something to send.
    pub fn withhold(&mut self, on: bool) -> bool {
        self.http2.withhold(on)
    }

    /// Whether the peer's first SETTINGS have come and ours are acknowledged. RFC 9113 section 6.5.3 asks for a limit in time.
    pub fn is_greeted(&self) -> bool {
        self.http2.is_greeted()
    }

    /// Ends the connection for a reason of the owner's: GOAWAY with this code, then close_notify. Flush, then close.
    pub fn abort(&mut self, code: ErrorCode) {
        self.http2.abort(code);
        self.last_word(None);
    }

    /// Takes no new streams and says so; those that are open go on. Close when [`is_drained`](Self::is_drained).
    pub fn go_away(&mut self) {
        self.http2.go_away();
    }

    /// Whether a [`go_away`](Self::go_away) has taken its full course: no stream is open and none can arrive any more. A peer that
    /// does not answer our PING keeps a server from knowing; have a deadline when [`streams`](Self::streams) is 0.
    pub fn is_drained(&self) -> bool {
        self.http2.is_drained()
    }

    /// Says that nothing more will be sent at all (TLS close_notify), after what is queued. Everything sent later is dropped.
    pub fn close(&mut self) {
        self.last_word(None);
    }

    /// Asks the peer for a sign of life; the answer is [`Sink::pong`].
    pub fn ping(&mut self, payload: [u8; 8]) {
        self.http2.ping(payload);
    }

    /// Everything that is to be written to the socket. Ends the open record, so call it once per round, when all is gathered.
    pub fn output(&mut self) -> &[u8] {
        if self.http2.seal().wants_key_update()
            && let Err(error) = self.update_key()
        {
            self.fail(error.into());
        }
        self.http2.output()
    }

    /// Changes our key (RFC 8446 section 4.6.3): KeyUpdate under the old one, everything else under the new one.
    fn update_key(&mut self) -> Result<(), TlsError> {
        let Some(protection) = &mut self.protection else {
            return Ok(());
        };
        if self.http2.is_output_ended() {
            return Ok(());
        }
        self.http2.message(record::HANDSHAKE, &record::KEY_UPDATE);
        let cipher = protection.renewal.tx()?;
        self.http2.seal_mut().change_key(cipher);
        Ok(())
    }

    /// The first `n` bytes of [`output`](Self::output) have been written. Gives the buffer back when all has.
    pub fn written(&mut self, n: usize) {
        self.http2.written(n);
    }

    /// Whether there is anything to write.
    pub fn has_output(&self) -> bool {
        self.http2.output_len() > 0
    }

    /// Bytes to write, about.
    pub fn output_len(&self) -> usize {
        self.http2.output_len()
    }

    /// Streams that are open in at least one direction.
    pub fn streams(&self) -> usize {
        self.http2.streams()
    }

    /// Client: whether [`open`](Self::open) would work.
    pub fn can_open(&self) -> bool {
        self.http2.can_open()
    }

    /// Whether either side said that it takes no new streams, or stream numbers are used up.
    pub fn is_going_away(&self) -> bool {
        self.failed.is_some() || self.closed || self.http2.is_going_away()
    }

    /// Whether the peer has sent its close_notify: nothing more comes. An end of the socket without it was cut off.
    pub fn is_closed(&self) -> bool {
        self.closed
    }
}

const _: () = {
    const fn is_send<T: Send>() {}
    // Runtimes move connections between threads.
    is_send::<Connection>();
};
