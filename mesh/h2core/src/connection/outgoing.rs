//! What the owner of a connection asks for.
use std::io::{self, IoSliceMut};

use super::Fill;
use super::core::{Core, Leaving, UPDATES_OF_STREAM};
use crate::frame::{Kind, MAX_SENT, flag};
use crate::{ErrorCode, OpenError, Role, Seal, StreamId, flow, hpack};

/// WINDOW_UPDATEs that a frame of data may lead to: implementations give credit for 4 KiB and more of our 16, on the stream and on the
/// connection. Twice that.
const UPDATES_OF_FRAME: u32 = 16;
/// Data of a frame that calls for WINDOW_UPDATEs although it used the window up. Peers whose windows are that small all the time are
/// served; more than it costs them it does not cost us.
const WORTH_AN_UPDATE: usize = 64;

impl<S: Seal> Core<S> {
    pub(super) fn is_going_away(&self) -> bool {
        self.leaving != Leaving::No || self.peer_leaving || self.next > flow::MAX
    }

    pub(super) fn may_open(&self) -> Result<(), OpenError> {
        if self.role != Role::Client || self.is_going_away() {
            return Err(OpenError::GoingAway);
        }
        let most = self.config.max_streams.min(self.peer.max_streams);
        // A full output would grow with every stream; the peer is not reading anyway.
        if self.streams.len() >= most as usize || self.output.room() == 0 {
            return Err(OpenError::Busy(most));
        }
        Ok(())
    }

    pub(super) fn open(&mut self, pseudo: &[(&str, &str)], headers: &[(&str, &str)]) -> Result<StreamId, OpenError> {
        self.may_open()?;
        let list = || pseudo.iter().chain(headers);
        let size = list()
            .map(|(name, value)| hpack::size(name.as_bytes(), value.as_bytes()))
            .sum();
        if size > self.peer.max_header_list as usize {
            return Err(OpenError::TooLarge(size));
        }
        let id = StreamId(self.next);
        self.next += 2;
        self.streams.insert(id, self.new_stream());
        self.expect_window_updates(UPDATES_OF_STREAM);
        self.send_headers(id, list(), false);
        Ok(id)
    }

    pub(super) fn respond(&mut self, id: StreamId, status: u16, headers: &[(&str, &str)], end: bool) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if stream.local_ended || stream.answered {
            return;
        }
        stream.answered = true;
        stream.local_ended = end;
        self.early_resets = self.early_resets.saturating_sub(1);
        let status = status.to_string();
        self.send_headers(id, [(":status", status.as_str())].iter().chain(headers), end);
        self.retire(id);
    }

    fn send_headers<'a>(&mut self, id: StreamId, list: impl Iterator<Item = &'a (&'a str, &'a str)>, end: bool) {
        let mut block = std::mem::take(&mut self.scratch);
        block.clear();
        self.encoder.begin(&mut block);
        for (name, value) in list {
            self.encoder.encode(&mut block, name.as_bytes(), value.as_bytes());
        }
        let (mut kind, mut flags) = (Kind::Headers, if end { flag::END_STREAM } else { 0 });
        let mut rest = &block[..];
        while rest.len() > MAX_SENT {
            let (piece, tail) = rest.split_at(MAX_SENT);
            self.output.frame(kind, flags, id.0, piece);
            (kind, flags, rest) = (Kind::Continuation, 0, tail);
        }
        self.output.frame(kind, flags | flag::END_HEADERS, id.0, rest);
        block.shrink_to(1 << 10);
        self.scratch = block;
    }

    pub(super) fn send_capacity(&self, id: StreamId) -> usize {
        match self.streams.get(&id) {
            // A server must answer first.
            Some(stream) if !stream.local_ended && (stream.answered || self.role == Role::Client) => {
                stream.send.available().min(self.connection_capacity())
            }
            _ => 0,
        }
    }

    pub(super) fn connection_capacity(&self) -> usize {
        self.send.available().min(self.output.room())
    }

    pub(super) fn fill(
        &mut self,
        id: StreamId,
        max: usize,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> io::Result<usize>,
    ) -> io::Result<Fill> {
        let max = max.min(self.send_capacity(id));
        if max == 0 {
            return Ok(Fill::Blocked);
        }
        let n = self.output.fill(id.0, max, read)?;
        if n == 0 {
            return Ok(Fill::End);
        }
        self.send.take(n);
        let open = self.streams.get_mut(&id).map_or(0, |stream| {
            stream.send.take(n);
            stream.send.available()
        });
        // What was cut off by a window that had just been opened a little calls for nothing.
        if n >= WORTH_AN_UPDATE || (open > 0 && self.send.available() > 0) {
            self.expect_window_updates(UPDATES_OF_FRAME * (n / MAX_SENT + 1) as u32);
        }
        Ok(Fill::Bytes(n))
    }

    pub(super) fn send(&mut self, id: StreamId, data: &[u8]) -> usize {
        let mut sent = 0;
        while sent < data.len() {
            let mut rest = &data[sent..];
            let copy = |slices: &mut [IoSliceMut<'_>]| {
                let mut n = 0;
                for slice in slices {
                    let (head, tail) = rest.split_at(slice.len().min(rest.len()));
                    slice[..head.len()].copy_from_slice(head);
                    (rest, n) = (tail, n + head.len());
                }
                Ok(n)
            };
            match self.fill(id, data.len() - sent, copy) {
                Ok(Fill::Bytes(n)) => sent += n,
                _ => break,
            }
        }
        sent
    }

    pub(super) fn finish(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if stream.local_ended {
            return;
        }
        if self.role == Role::Server && !stream.answered {
            // Nothing may be said before the answer; ending without one is a reset.
            return self.reset(id, ErrorCode::Cancel);
        }
        stream.local_ended = true;
        self.output.frame(Kind::Data, flag::END_STREAM, id.0, &[]);
        self.retire(id);
    }

    pub(super) fn reset(&mut self, id: StreamId, code: ErrorCode) {
        if self.remove(id).is_some() {
            self.send_reset(id, code);
        }
    }

    pub(super) fn release(&mut self, id: StreamId, n: usize) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let n = (n as u64).min(stream.held);
        stream.held -= n;
        let increment = if stream.remote_ended {
            None
        } else {
            stream.receive.give(n as u32)
        };
        self.unhold(n);
        if let Some(increment) = increment {
            self.send_window_update(id.0, increment);
        }
    }
}
