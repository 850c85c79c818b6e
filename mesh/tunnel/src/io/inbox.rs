//! What a peer says, sorted to those whom it concerns.

use std::{collections::VecDeque, task::Waker};

use culvert_hbone::{BadRequest, ConnectRequest, ErrorCode, Response, Sink, StreamId};
use rustc_hash::FxHashMap;

use super::entry::{Entry, Phase, Sending};
use crate::failure::Failure;

/// What is to be done with the connection, which cannot be called while it speaks.
#[derive(Debug, Default)]
pub(super) struct Todo {
    /// Bytes that nobody reads.
    pub(super) release: Vec<(StreamId, usize)>,
    /// Streams whose owner is gone, and which go on.
    pub(super) reset: Vec<StreamId>,
    /// Requests that nobody takes.
    pub(super) unheard: Vec<StreamId>,
    /// Requests that make no sense.
    pub(super) refuse: Vec<(StreamId, BadRequest)>,
    pub(super) writable: Vec<StreamId>,
    pub(super) all_writable: bool,
    pub(super) go_away: bool,
    /// A stream has ended, at least in one direction.
    pub(super) freed: bool,
}

/// Takes what [`culvert_hbone::Connection::receive`] tells.
pub(super) struct Inbox<'s> {
    pub(super) streams: &'s mut FxHashMap<StreamId, Entry>,
    pub(super) requests: &'s mut VecDeque<(StreamId, ConnectRequest)>,
    pub(super) asker: &'s mut Option<Waker>,
    pub(super) deaf: bool,
    pub(super) todo: &'s mut Todo,
    pub(super) wakers: &'s mut Vec<Waker>,
}

impl<'b> Sink<'b> for Inbox<'_> {
    fn connect(&mut self, id: StreamId, request: Result<ConnectRequest, BadRequest>) {
        match request {
            Ok(_) if self.deaf => self.todo.unheard.push(id),
            Ok(request) => {
                self.streams.insert(id, Entry::new(Phase::Asked));
                self.requests.push_back((id, request));
                self.wakers.extend(self.asker.take());
            }
            Err(error) => self.todo.refuse.push((id, error)),
        }
    }

    fn response(&mut self, id: StreamId, response: Response) {
        if let Some(entry) = self.streams.get_mut(&id) {
            entry.phase = Phase::Answered(response);
            self.wakers.extend(entry.reader.take());
        }
    }

    fn data(&mut self, id: StreamId, data: &'b [u8]) {
        match self.streams.get_mut(&id) {
            Some(entry) if entry.orphan.is_none() => {
                entry.received.push(data);
                self.wakers.extend(entry.reader.take());
            }
            orphan => {
                self.todo.release.push((id, data.len()));
                if orphan.is_some() {
                    self.todo.reset.push(id);
                }
            }
        }
    }

    fn end(&mut self, id: StreamId) {
        self.todo.freed = true;
        let Some(entry) = self.streams.get_mut(&id) else {
            return;
        };
        entry.ended = true;
        self.wakers.extend(entry.reader.take());
        if entry.orphan.is_some() && entry.sending == Sending::Ended {
            self.streams.remove(&id);
        }
    }

    fn reset(&mut self, id: StreamId, code: ErrorCode) {
        self.todo.freed = true;
        let Some(entry) = self.streams.get_mut(&id) else {
            return;
        };
        let seen = !self.requests.iter().any(|(asked, _)| *asked == id);
        if seen && entry.orphan.is_none() {
            entry.fail(Failure::ResetByPeer(code), self.wakers);
        } else {
            // Nobody has seen it, or nobody will.
            self.streams.remove(&id);
            self.requests.retain(|(asked, _)| *asked != id);
        }
    }

    fn writable(&mut self, id: StreamId) {
        self.todo.writable.push(id);
    }

    fn all_writable(&mut self) {
        self.todo.all_writable = true;
    }

    fn pong(&mut self, _: [u8; 8]) {}

    fn go_away(&mut self, _: StreamId, _: ErrorCode) {
        self.todo.go_away = true;
    }
}
