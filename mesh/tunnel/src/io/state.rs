//! What the task of a tunnel and the owners of its streams share.
//!
//! A stream's owner reads and writes here, and wakes the task when there is something for the socket. What is written goes straight
//! into the connection's output while nobody waits for a turn and the output is short; else it waits in the stream's pipe for its turn.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use culvert_hbone::{Authority, ConnectRequest, Connection, ErrorCode, OpenError, ProtocolError, Response, StreamId};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::io::ReadBuf;

use super::{
    entry::{Entry, PIPE, Phase, Sending},
    inbox::{Inbox, Todo},
};
use crate::{
    failure::Failure,
    life::{Life, Limits},
    turns::Turns,
};

/// Output that is worth a write before more is added: what comes later waits behind it.
const FLUSH: usize = 256 << 10;

/// Bytes of one turn.
const QUANTUM: usize = 64 << 10;

/// How long a stream whose owner is gone may wait for the peer's end.
const ORPHAN: Duration = Duration::from_secs(10);

/// The name of the state's lock. It is held for a `poll`, never across an await. Locks of a pool are taken before it, never after.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
}

/// A tunnel's state.
pub(super) struct State {
    pub(super) connection: Connection,
    pub(super) life: Life,
    pub(super) streams: FxHashMap<StreamId, Entry>,
    turns: Turns<StreamId>,
    /// Most output to gather, by what the network takes.
    enough: usize,
    /// Requests that nobody has taken yet.
    requests: VecDeque<(StreamId, ConnectRequest)>,
    /// Who waits for one.
    asker: Option<Waker>,
    /// Nobody takes requests any more.
    deaf: bool,
    /// The tunnel's task.
    pub(super) task: Option<Waker>,
    /// A stream was opened though the peer was not heard of for a while: it must answer by a deadline that is still to be set.
    pub(super) doubting: bool,
    /// A stream has ended since the pool was told.
    pub(super) freed: bool,
    /// Why there is no tunnel any more.
    pub(super) over: Option<Failure>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("streams", &self.streams.len())
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

impl State {
    pub(super) fn new(connection: Connection, life: Life) -> Self {
        Self {
            connection,
            life,
            streams: FxHashMap::default(),
            turns: Turns::new(),
            enough: FLUSH,
            requests: VecDeque::new(),
            asker: None,
            deaf: false,
            task: None,
            doubting: false,
            freed: false,
            over: None,
        }
    }

    /// There is something for the task to do.
    pub(super) fn wake_task(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Opens a stream. It is to be dropped by [`abandon`](Self::abandon).
    pub(super) fn open(
        &mut self,
        authority: &Authority,
        headers: &[(&str, &str)],
        now: Instant,
        limits: &Limits,
    ) -> Result<StreamId, OpenError> {
        if self.over.is_some() || self.life.is_retiring() {
            return Err(OpenError::GoingAway);
        }
        let id = self.connection.open(authority, headers)?;
        self.streams.insert(id, Entry::new(Phase::Asking));
        if let Some(ask) = self.life.ask(now, limits) {
            self.doubting = true;
            if ask {
                self.connection.ping(super::driver::PING);
            }
        }
        self.wake_task();
        Ok(id)
    }

    /// The peer's answer to a stream that was opened.
    pub(super) fn answer(&mut self, id: StreamId, context: &mut Context<'_>) -> Poll<Result<Response, Failure>> {
        let Some(entry) = self.streams.get_mut(&id) else {
            return Poll::Ready(Err(self.lost()));
        };
        match std::mem::replace(&mut entry.phase, Phase::Open) {
            Phase::Answered(answer) => return Poll::Ready(Ok(answer)),
            other => entry.phase = other,
        }
        if let Some(failure) = entry.failure.as_ref().or(self.over.as_ref()) {
            return Poll::Ready(Err(failure.clone()));
        }
        entry.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// A request that nobody has taken yet; none when there will be no more.
    pub(super) fn request(&mut self, context: &mut Context<'_>) -> Poll<Option<(StreamId, ConnectRequest)>> {
        if let Some(request) = self.requests.pop_front() {
            return Poll::Ready(Some(request));
        }
        if self.over.is_some() {
            return Poll::Ready(None);
        }
        self.asker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Bytes that came and were not read.
    pub(super) fn held(&self) -> usize {
        self.streams.values().map(|entry| entry.received.len()).sum()
    }

    /// Answers a request. A refusal is the owner's last word.
    pub(super) fn respond(&mut self, id: StreamId, status: u16, headers: &[(&str, &str)], end: bool, now: Instant) {
        let Some(entry) = self.streams.get_mut(&id) else {
            return;
        };
        entry.phase = Phase::Open;
        self.connection.respond(id, status, headers, end);
        if end {
            entry.sending = Sending::Ended;
            self.abandon(id, ErrorCode::NoError, now);
        }
        self.wake_task();
    }

    /// Moves received bytes to whoever reads, and gives the peer credit for them.
    pub(super) fn read(
        &mut self,
        id: StreamId,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let Some(entry) = self.streams.get_mut(&id) else {
            return Poll::Ready(Err(to_io(&self.lost())));
        };
        if !entry.received.is_empty() {
            let n = entry.received.read(buffer);
            self.connection.release(id, n);
            if self.connection.has_output() {
                self.wake_task();
            }
            return Poll::Ready(Ok(()));
        }
        if entry.ended {
            return Poll::Ready(Ok(()));
        }
        if let Some(failure) = entry.failure.as_ref().or(self.over.as_ref()) {
            return Poll::Ready(Err(to_io(failure)));
        }
        entry.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Takes bytes to send.
    pub(super) fn write(&mut self, id: StreamId, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let Some(entry) = self.streams.get_mut(&id) else {
            return Poll::Ready(Err(to_io(&self.lost())));
        };
        if let Some(failure) = entry.failure.as_ref().or(self.over.as_ref()) {
            return Poll::Ready(Err(to_io(failure)));
        }
        if entry.sending != Sending::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let free = self.enough.saturating_sub(self.connection.output_len());
        if free > 0 && entry.pipe.is_empty() && self.turns.is_empty() {
            let n = self.connection.send(id, &data[..data.len().min(free)]);
            if n > 0 {
                self.wake_task();
                return Poll::Ready(Ok(n));
            }
        }
        let n = data.len().min(PIPE.saturating_sub(entry.pipe.len()));
        if n == 0 {
            entry.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        entry.pipe.extend(&data[..n]);
        if !std::mem::replace(&mut entry.queued, true) {
            self.turns.enter(id);
        }
        self.wake_task();
        Poll::Ready(Ok(n))
    }

    /// Ends our direction of a stream, behind what is in its pipe.
    pub(super) fn finish(&mut self, id: StreamId) {
        let Some(entry) = self.streams.get_mut(&id) else {
            return;
        };
        if entry.sending != Sending::Open || entry.failure.is_some() {
            return;
        }
        entry.sending = Sending::Ending;
        if entry.pipe.is_empty() {
            self.end_sending(id);
        }
        self.wake_task();
    }

    fn end_sending(&mut self, id: StreamId) {
        let Some(entry) = self.streams.get_mut(&id) else {
            return;
        };
        entry.sending = Sending::Ended;
        self.freed = true;
        self.connection.finish(id);
        if entry.orphan.is_some() && entry.ended {
            self.streams.remove(&id);
        }
    }

    /// The owner of a stream is gone. If it ended its direction before, that still goes out whole; else the stream is reset, so that the
    /// peer cannot take what it has for everything.
    pub(super) fn abandon(&mut self, id: StreamId, code: ErrorCode, now: Instant) {
        let Some(entry) = self.streams.get_mut(&id) else {
            return;
        };
        let unread = entry.received.clear();
        let finished = entry.sending == Sending::Ended;
        let gone = self.over.is_some() || entry.failure.is_some() || finished && entry.ended;
        // A socket that is closed with bytes that were not read resets the connection, too.
        let cut = entry.sending == Sending::Open || finished && unread > 0;
        if !gone && !cut {
            entry.orphan = Some(now);
        } else {
            self.streams.remove(&id);
        }
        self.connection.release(id, unread);
        if !gone && cut {
            self.connection
                .reset(id, if finished { ErrorCode::NoError } else { code });
        }
        self.freed = true;
        self.wake_task();
    }

    /// Its owner resets a stream, whatever it has still to send.
    pub(super) fn cut(&mut self, id: StreamId, code: ErrorCode) {
        if self.streams.remove(&id).is_some() {
            self.connection.reset(id, code);
            self.freed = true;
            self.wake_task();
        }
    }

    /// Nobody takes requests any more: those that wait are refused, as is what still comes.
    pub(super) fn deafen(&mut self, now: Instant) {
        self.deaf = true;
        for (id, _) in std::mem::take(&mut self.requests) {
            self.cut(id, ErrorCode::RefusedStream);
        }
        self.retire(now);
    }

    /// Takes no new streams.
    pub(super) fn retire(&mut self, now: Instant) {
        if self.life.retire(self.connection.streams(), now) {
            self.connection.go_away();
        }
        self.wake_task();
    }

    /// Gives each stream that has something to send its turn, until the output is long enough. Returns whether anything was sent.
    pub(super) fn send_turns(&mut self, wakers: &mut Vec<Waker>) -> bool {
        let mut any = false;
        for _ in 0..self.turns.len() {
            if self.connection.output_len() >= self.enough {
                break;
            }
            let Some(mut turn) = self.turns.next(QUANTUM) else {
                break;
            };
            let id = turn.flow;
            loop {
                let Some(entry) = self.streams.get_mut(&id) else { break };
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
    pub(super) fn pace(&mut self, ahead: usize) {
        self.enough = FLUSH.min(ahead);
    }

    /// Whether somebody has something to send and could.
    pub(super) fn has_turns(&self) -> bool {
        !self.turns.is_empty() && self.connection.connection_capacity() > 0
    }

    /// Follows what was received. Returns the bytes consumed.
    pub(super) fn receive(
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
            self.connection
                .respond(id, error.status(), &[(super::REASON, &error.to_string())], true);
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
    pub(super) fn sweep(&mut self, now: Instant) {
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
    pub(super) fn fail_unanswered(&mut self, failure: &Failure, wakers: &mut Vec<Waker>) {
        for (id, entry) in &mut self.streams {
            if matches!(entry.phase, Phase::Asking) && entry.failure.is_none() {
                self.connection.reset(*id, ErrorCode::Cancel);
                entry.fail(failure.clone(), wakers);
            }
        }
    }

    /// There is no tunnel any more.
    pub(super) fn end(&mut self, failure: Failure, wakers: &mut Vec<Waker>) {
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

    fn lost(&self) -> Failure {
        self.over
            .clone()
            .unwrap_or_else(|| Failure::TunnelLost("the stream has ended".into()))
    }
}

/// As an error of I/O, whose source says which peer it was.
pub(super) fn to_io(failure: &Failure) -> io::Error {
    let kind = match failure {
        Failure::ResetByPeer(_) => io::ErrorKind::ConnectionReset,
        _ => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, failure.clone())
}

impl Shared {
    pub(super) fn new(state: State) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
        })
    }
}
