//! The task's side of a tunnel's state: turns, what is received, and the end.

use std::{
    collections::VecDeque,
    task::Waker,
    time::{Duration, Instant},
};

use culvert_hbone::{ErrorCode, ProtocolError, REASON_HEADER, StreamId};

use super::{FLUSH, State};
use crate::{
    failure::Failure,
    io::{
        entry::{Entry, PIPE, Phase, Sending},
        inbox::{Inbox, Todo},
    },
};

/// Bytes of one turn.
const QUANTUM: usize = 64 << 10;

/// How long a stream whose owner is gone may wait for the peer's end.
const ORPHAN: Duration = Duration::from_secs(10);

impl State {
    /// Gives each stream that has something to send its turn, until the output is long enough. Returns whether anything was sent.
    pub(in crate::io) fn send_turns(&mut self, wakers: &mut Vec<Waker>) -> bool {
        let mut any = false;
        for _ in 0..self.turns.len() {
            if self.connection.output_len() >= self.enough {
                break;
            }
            let Some(mut turn) = self.turns.next(QUANTUM) else {
                break;
            };
            let id = turn.flow;
            while let Some(entry) = self.streams.get_mut(&id) {
                if entry.pipe.is_empty() {
                    entry.queued = false;
                    if entry.sending == Sending::Ending {
                        self.end_sending(id);
                    }
                    break;
                }
                if turn.deficit == 0 {
                    self.turns.again(turn);
                    break;
                }
                let (head, _) = entry.pipe.as_slices();
                let n = self.connection.send(id, &head[..head.len().min(turn.deficit)]);
                if n == 0 {
                    if self.connection.connection_capacity() == 0 {
                        self.turns.cut_off(turn);
                        return any;
                    }
                    // Its own window is closed: it comes back when that opens.
                    entry.queued = false;
                    break;
                }
                any = true;
                turn.deficit -= n;
                entry.sent(n);
                if entry.pipe.len() <= PIPE / 2 {
                    wakers.extend(entry.writer.take());
                }
            }
        }
        any
    }

    /// The network takes so many bytes in a moment: more output than that makes what comes later wait.
    pub(in crate::io) fn pace(&mut self, ahead: usize) {
        self.enough = FLUSH.min(ahead);
    }

    /// Whether somebody has something to send and could.
    pub(in crate::io) fn has_turns(&self) -> bool {
        !self.turns.is_empty() && self.connection.connection_capacity() > 0
    }

    /// Follows what was received. Returns the bytes consumed.
    pub(in crate::io) fn receive(
        &mut self,
        bytes: &mut [u8],
        wakers: &mut Vec<Waker>,
        now: Instant,
    ) -> Result<usize, ProtocolError> {
        let mut todo = Todo::default();
        let mut inbox = Inbox {
            streams: &mut self.streams,
            requests: &mut self.requests,
            asker: &mut self.asker,
            deaf: self.deaf,
            todo: &mut todo,
            wakers,
        };
        let result = self.connection.receive(bytes, &mut inbox);
        self.act(todo, now);
        result
    }

    fn act(&mut self, todo: Todo, now: Instant) {
        self.freed |= todo.freed;
        for (id, n) in todo.release {
            self.connection.release(id, n);
        }
        for id in todo.reset {
            if self
                .streams
                .get(&id)
                .is_some_and(|entry| entry.sending == Sending::Ended)
            {
                self.connection.reset(id, ErrorCode::NoError);
                self.streams.remove(&id);
            }
        }
        for id in todo.unheard {
            self.connection.reset(id, ErrorCode::RefusedStream);
        }
        for (id, error) in todo.refuse {
            let malformed = error.is_malformed();
            self.connection
                .respond(id, error.status(), &[(REASON_HEADER, &error.to_string())], !malformed);
            if malformed {
                self.connection.reset(id, ErrorCode::ProtocolError);
            }
        }
        for id in todo.writable {
            self.enter(id);
        }
        if todo.all_writable {
            let waiting = self.streams.iter().filter(|(_, entry)| !entry.pipe.is_empty());
            let mut waiting: Vec<_> = waiting.map(|(id, _)| *id).collect();
            waiting.sort_unstable();
            waiting.into_iter().for_each(|id| self.enter(id));
        }
        if todo.go_away {
            self.retire(now);
        }
    }

    fn enter(&mut self, id: StreamId) {
        if let Some(entry) = self.streams.get_mut(&id)
            && !entry.pipe.is_empty()
            && !std::mem::replace(&mut entry.queued, true)
        {
            self.turns.enter(id);
        }
    }

    /// Resets the streams whose owners have been gone for long and whose peers do not end them.
    pub(in crate::io) fn sweep(&mut self, now: Instant) {
        let old = |entry: &Entry| {
            entry
                .orphan
                .is_some_and(|since| now.saturating_duration_since(since) >= ORPHAN)
        };
        let old: Vec<_> = self
            .streams
            .iter()
            .filter(|(_, entry)| old(entry))
            .map(|(id, _)| *id)
            .collect();
        for id in old {
            self.connection.reset(id, ErrorCode::NoError);
            self.streams.remove(&id);
            self.freed = true;
        }
    }

    /// Streams that wait for an answer fail: the peer gives no sign of life.
    pub(in crate::io) fn fail_unanswered(&mut self, failure: &Failure, wakers: &mut Vec<Waker>) {
        for (id, entry) in &mut self.streams {
            if matches!(entry.phase, Phase::Asking) && entry.failure.is_none() {
                self.connection.reset(*id, ErrorCode::Cancel);
                entry.fail(failure.clone(), wakers);
            }
        }
    }

    /// There is no tunnel any more.
    pub(in crate::io) fn end(&mut self, failure: Failure, wakers: &mut Vec<Waker>) {
        for (id, _) in self.requests.drain(..) {
            self.streams.remove(&id);
        }
        self.streams.retain(|_, entry| entry.orphan.is_none());
        for entry in self.streams.values_mut() {
            entry.pipe = VecDeque::new();
            entry.wake(wakers);
        }
        wakers.extend(self.asker.take());
        self.over.get_or_insert(failure);
    }
}
