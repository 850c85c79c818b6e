//! Bytes between a tunnel's connection and its socket.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Instant,
};

use culvert_hbone::{ProtocolError, TlsError};
use tokio::io::ReadBuf;

use super::{Change, Driver, ROUNDS, Stage};
use crate::{
    failure::Failure,
    io::{clock::now, socket::Socket, state::State},
    pace,
};

/// Bytes of one read.
const READ: usize = 256 << 10;
/// The longest beginning of a record that waits for its rest.
const PARTIAL: usize = 17 << 10;

thread_local! {
    /// Where sockets are read into: what a tunnel keeps between two reads is less than a record.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; PARTIAL + READ]);
}

impl<S: Socket> Driver<S> {
    /// Writes until the socket takes no more. Returns whether it took anything.
    pub(super) fn write(&mut self, context: &mut Context<'_>, state: &mut State) -> io::Result<bool> {
        let was_blocked = std::mem::take(&mut self.blocked);
        let mut any = false;
        loop {
            let bytes = state.connection.output();
            if bytes.is_empty() {
                break;
            }
            match Pin::new(&mut self.socket).poll_write(context, bytes) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => {
                    state.connection.written(n);
                    any = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.blocked = true;
                    break;
                }
            }
        }
        self.unflushed |= any;
        if was_blocked && any {
            self.measure(state);
        }
        Ok(any)
    }

    pub(super) fn flush(&mut self, context: &mut Context<'_>, state: &State) -> Result<(), Failure> {
        if self.unflushed && !state.connection.has_output() {
            match Pin::new(&mut self.socket).poll_flush(context) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return Err(Failure::tunnel(self.peer.address, &error)),
                Poll::Pending => {}
            }
        }
        Ok(())
    }

    /// The network is the bottleneck: bounds what waits in the kernel by what the network takes in a moment.
    fn measure(&mut self, state: &mut State) {
        let now = now();
        if now.saturating_duration_since(self.measured) < pace::MEASURE {
            return;
        }
        self.measured = now;
        let Some(measured) = self.socket.send_state() else {
            return;
        };
        let ahead = pace::ahead(&measured, self.ahead);
        if ahead != self.ahead {
            self.ahead = ahead;
            self.socket.limit_unsent(ahead as u32);
            state.pace(ahead);
        }
    }

    /// Reads once. Returns whether anything came, and whether the peer has closed its side.
    pub(super) fn read(
        &mut self,
        context: &mut Context<'_>,
        state: &mut State,
        wakers: &mut Vec<Waker>,
        changes: &mut Vec<Change>,
        now: Instant,
    ) -> Result<(bool, bool), Failure> {
        if state.connection.is_closed() {
            return Ok((false, true));
        }
        BUFFER.with_borrow_mut(|buffer| {
            let have = self.partial.len();
            buffer[..have].copy_from_slice(&self.partial);
            let mut space = ReadBuf::new(&mut buffer[have..have + READ]);
            let n = match Pin::new(&mut self.socket).poll_read(context, &mut space) {
                Poll::Pending => return Ok((false, false)),
                Poll::Ready(Err(error)) => return Err(Failure::tunnel(self.peer.address, &error)),
                Poll::Ready(Ok(())) => space.filled().len(),
            };
            if n == 0 {
                return Ok((false, true));
            }
            if state.life.hear(now) {
                changes.push(Change::Trusted);
            }
            self.doubt_at = None;
            let bytes = &mut buffer[..have + n];
            let used = self.receive(state, bytes, wakers, now);
            self.partial.clear();
            self.partial.extend_from_slice(&bytes[used..]);
            Ok((true, state.connection.is_closed()))
        })
    }

    /// Acts on what the peer said, and returns how much of it is used up. A peer that breaks a rule loses its streams at once, and is
    /// told why before the tunnel ends.
    pub(super) fn receive(
        &mut self,
        state: &mut State,
        bytes: &mut [u8],
        wakers: &mut Vec<Waker>,
        now: Instant,
    ) -> usize {
        let all = bytes.len();
        match state.receive(bytes, wakers, now) {
            Ok(used) => used,
            // It was told before, and the rest of what it says is of no interest.
            Err(_) if self.stage != Stage::Open => all,
            Err(error) => {
                // A peer that gives up, for whatever reason, breaks no rule.
                if !matches!(error, ProtocolError::Tls(TlsError::Alert(_))) {
                    tracing::warn!(
                        peer = %self.peer.address, identity = %self.peer.identity, role = ?self.role,
                        streams = state.streams.len(), "a peer misbehaves; its tunnel is closed: {error}"
                    );
                }
                state.life.retire(0, now);
                state.end(Failure::protocol(self.peer.address, &error), wakers);
                self.part(state, now);
                all
            }
        }
    }

    /// Reads to the end what the peer of a closed tunnel still says. Returns whether it has ended.
    pub(super) fn discard(&mut self, context: &mut Context<'_>) -> Result<bool, Failure> {
        BUFFER.with_borrow_mut(|buffer| {
            for _ in 0..ROUNDS {
                let mut space = ReadBuf::new(&mut buffer[..READ]);
                match Pin::new(&mut self.socket).poll_read(context, &mut space) {
                    Poll::Pending => return Ok(false),
                    Poll::Ready(Ok(())) if !space.filled().is_empty() => {}
                    Poll::Ready(_) => return Ok(true),
                }
            }
            context.waker().wake_by_ref();
            Ok(false)
        })
    }
}
