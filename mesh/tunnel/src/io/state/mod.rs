//! What the task of a tunnel and the owners of its streams share.
//!
//! A stream's owner reads and writes here, and wakes the task when there is something for the socket. What is written goes straight
//! into the connection's output while nobody waits for a turn and the output is short; else it waits in the stream's pipe for its turn.
//! What the task does is in `rounds`.

mod rounds;

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use culvert_hbone::{Authority, ConnectRequest, Connection, ErrorCode, OpenError, Response, StreamId};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::io::ReadBuf;

use super::entry::{Entry, PIPE, Phase, Sending};
use crate::{
    failure::Failure,
    life::{Life, Limits},
    turns::Turns,
};

/// What our pings say.
pub(in crate::io) const PING: [u8; 8] = *b"culvert?";

/// Output that is worth a write before more is added: what comes later waits behind it.
const FLUSH: usize = 256 << 10;

/// The name of the state's lock. It is held for a `poll`, never across an await. Locks of a pool are taken before it, never after.
#[derive(Debug)]
pub(in crate::io) struct Shared {
    pub(in crate::io) state: Mutex<State>,
}

/// A tunnel's state.
pub(in crate::io) struct State {
    pub(in crate::io) connection: Connection,
    pub(in crate::io) life: Life,
    pub(in crate::io) streams: FxHashMap<StreamId, Entry>,
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
    pub(in crate::io) task: Option<Waker>,
    /// A stream was opened though the peer was not heard of for a while: it must answer by a deadline that is still to be set.
    pub(in crate::io) doubting: bool,
    /// A stream has ended since the pool was told.
    pub(in crate::io) freed: bool,
    /// Why there is no tunnel any more.
    pub(in crate::io) over: Option<Failure>,
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
    pub(in crate::io) fn new(connection: Connection, life: Life) -> Self {
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
    pub(in crate::io) fn wake_task(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Opens a stream. It is to be dropped by [`abandon`](Self::abandon).
    pub(in crate::io) fn open(
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
                self.connection.ping(PING);
            }
        }
        self.wake_task();
        Ok(id)
    }

    /// The peer's answer to a stream that was opened.
    pub(in crate::io) fn answer(&mut self, id: StreamId, context: &mut Context<'_>) -> Poll<Result<Response, Failure>> {
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
    pub(in crate::io) fn request(&mut self, context: &mut Context<'_>) -> Poll<Option<(StreamId, ConnectRequest)>> {
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
    pub(in crate::io) fn held(&self) -> usize {
        self.streams.values().map(|entry| entry.received.len()).sum()
    }

    /// Answers a request. A refusal is the owner's last word.
    pub(in crate::io) fn respond(
        &mut self,
        id: StreamId,
        status: u16,
        headers: &[(&str, &str)],
        end: bool,
        now: Instant,
    ) {
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
    pub(in crate::io) fn read(
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
    pub(in crate::io) fn write(
        &mut self,
        id: StreamId,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
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
    pub(in crate::io) fn finish(&mut self, id: StreamId) {
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
    pub(in crate::io) fn abandon(&mut self, id: StreamId, code: ErrorCode, now: Instant) {
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
    pub(in crate::io) fn cut(&mut self, id: StreamId, code: ErrorCode) {
        if self.streams.remove(&id).is_some() {
            self.connection.reset(id, code);
            self.freed = true;
            self.wake_task();
        }
    }

    /// Nobody takes requests any more: those that wait are refused, as is what still comes.
    pub(in crate::io) fn deafen(&mut self, now: Instant) {
        self.deaf = true;
        for (id, _) in std::mem::take(&mut self.requests) {
            self.cut(id, ErrorCode::RefusedStream);
        }
        self.retire(now);
    }

    /// Takes no new streams.
    pub(in crate::io) fn retire(&mut self, now: Instant) {
        if self.life.retire(self.connection.streams(), now) {
            self.connection.go_away();
        }
        self.wake_task();
    }

    fn lost(&self) -> Failure {
        self.over
            .clone()
            .unwrap_or_else(|| Failure::TunnelLost("the stream has ended".into()))
    }
}

/// As an error of I/O, whose source says which peer it was.
pub(in crate::io) fn to_io(failure: &Failure) -> io::Error {
    let kind = match failure {
        Failure::ResetByPeer(_) => io::ErrorKind::ConnectionReset,
        _ => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, failure.clone())
}

impl Shared {
    pub(in crate::io) fn new(state: State) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
        })
    }
}
