//! The task of one tunnel: it alone touches the socket.
//!
//! Each round gives streams their turns, writes, and reads, until none of it moves; then the task sleeps until the socket, a stream's owner
//! or the regular look wakes it. A tunnel that retires carries on what it has. When its last stream has ended it says its last word, shuts
//! the socket's sending side down behind it, and reads until the peer does the same: closing a socket with unread bytes makes the kernel
//! reset the connection and throw away what the peer has not taken (RFC 2525 section 2.17).

use std::{
    cell::RefCell,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Instant, SystemTime},
};

use culvert_hbone::{ErrorCode, Role};
use culvert_identity::SpiffeId;
use tokio::{
    io::ReadBuf,
    time::{Sleep, sleep_until},
};

use super::{
    settings::Settings,
    socket::{CredentialSource, Socket},
    state::{Shared, State},
    stream::Peer,
};
use crate::{
    failure::Failure,
    life::{Act, LINGER, Load},
    pace,
    proof::{Finding, Proof},
};

/// What our pings say.
pub(super) const PING: [u8; 8] = *b"culvert?";

/// Bytes of one read.
const READ: usize = 256 << 10;
/// The longest beginning of a record that waits for its rest.
const PARTIAL: usize = 17 << 10;
/// Rounds and reads before other tasks of the thread get to run.
const ROUNDS: usize = 8;

thread_local! {
    /// Where sockets are read into: what a tunnel keeps between two reads is less than a record.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; PARTIAL + READ]);
}

/// What became of a tunnel that others must know.
#[derive(Debug)]
pub(super) enum Change {
    /// It may take another stream.
    Free,
    /// It takes no new streams.
    Leaves,
    /// Its peer gives no sign of life: no new streams until it does.
    Doubted,
    /// It does again.
    Trusted,
    /// It is gone.
    Over,
}

/// Whom to ask whether a tunnel's certificates still hold.
pub(super) struct Vouched {
    pub(super) own: SpiffeId,
    pub(super) proof: Proof,
    pub(super) credentials: Arc<dyn CredentialSource>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The last word is queued.
    Parting,
    /// It is said, and the sending side shut down.
    Closing,
}

/// The task of a tunnel. It does nothing until it is spawned.
#[must_use = "a tunnel without its task does nothing"]
pub struct Driver<S> {
    socket: S,
    shared: Arc<Shared>,
    role: Role,
    peer: Arc<Peer>,
    settings: Arc<Settings>,
    vouched: Vouched,
    watch: Box<dyn Fn(Change) + Send>,
    stage: Stage,
    /// The beginning of a record whose rest has not come.
    partial: Vec<u8>,
    /// It holds bytes that were never looked at.
    unseen: bool,
    timer: Pin<Box<Sleep>>,
    look_at: Instant,
    doubt_at: Option<Instant>,
    /// Something was written since the last flush.
    unflushed: bool,
    /// The socket took less than there was.
    blocked: bool,
    /// Bytes that the socket takes ahead of the network, and when that was measured.
    ahead: usize,
    measured: Instant,
    left: bool,
    could_open: bool,
    carried: usize,
}

/// What a tunnel starts with.
pub(super) struct Parts<S> {
    pub(super) socket: S,
    pub(super) shared: Arc<Shared>,
    pub(super) role: Role,
    pub(super) peer: Arc<Peer>,
    /// What came behind the handshake.
    pub(super) early: Vec<u8>,
    pub(super) settings: Arc<Settings>,
    pub(super) vouched: Vouched,
    pub(super) watch: Box<dyn Fn(Change) + Send>,
}

impl<S: Socket> Driver<S> {
    pub(super) fn new(parts: Parts<S>) -> Self {
        let now = now();
        let look_at = now + parts.settings.look;
        Self {
            socket: parts.socket,
            shared: parts.shared,
            role: parts.role,
            peer: parts.peer,
            vouched: parts.vouched,
            watch: parts.watch,
            stage: Stage::Open,
            unseen: !parts.early.is_empty(),
            partial: parts.early,
            timer: Box::pin(sleep_until(look_at.into())),
            settings: parts.settings,
            look_at,
            doubt_at: None,
            unflushed: false,
            blocked: false,
            ahead: pace::UNLIMITED,
            measured: now,
            left: false,
            could_open: true,
            carried: 0,
        }
    }
}

/// As tokio's clock says, which tests may stop.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl<S: Socket> Future for Driver<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let (mut wakers, mut changes) = (Vec::new(), Vec::new());
        let shared = Arc::clone(&this.shared);
        let result = {
            let mut state = shared.state.lock();
            state.task = Some(context.waker().clone());
            let result = this.run(context, &mut state, &mut wakers, &mut changes);
            this.tell(&mut state, &mut changes);
            match result {
                Ok(false) => Poll::Pending,
                Ok(true) => this.over(&mut state, this.closed(), &mut wakers, &mut changes),
                Err(failure) => {
                    // Where we gave it up, what is queued says why.
                    let _ = this.write(context, &mut state);
                    this.over(&mut state, failure, &mut wakers, &mut changes)
                }
            }
        };
        // Those who are woken want the lock.
        wakers.into_iter().for_each(Waker::wake);
        changes.into_iter().for_each(|change| (this.watch)(change));
        result
    }
}

impl<S: Socket> Driver<S> {
    /// Goes as far as it can. Returns whether the tunnel has ended in order.
    fn run(
        &mut self,
        context: &mut Context<'_>,
        state: &mut State,
        wakers: &mut Vec<Waker>,
        changes: &mut Vec<Change>,
    ) -> Result<bool, Failure> {
        let now = now();
        if std::mem::take(&mut state.doubting) && self.doubt_at.is_none() {
            self.doubt_at = Some(now + self.settings.doubt_timeout);
        }
        if self.timers(now, state, wakers, changes)? {
            return Ok(true);
        }
        if std::mem::take(&mut self.unseen) {
            let mut early = std::mem::take(&mut self.partial);
            let used = self.receive(state, &mut early, wakers, now)?;
            early.drain(..used);
            self.partial = early;
        }
        for _ in 0..ROUNDS {
            if self.stage == Stage::Closing {
                self.arm(context);
                return self.discard(context);
            }
            let sent = state.send_turns(wakers);
            let written = self.write(context, state);
            let (read, ended) = self.read(context, state, wakers, changes, now)?;
            if ended {
                return Err(self.lost("closed by the peer"));
            }
            // What the peer said before it went may still have been there to read, and says more than this error.
            let written = written.map_err(|error| Failure::tunnel(self.peer.address, &error))?;
            let parted = self.part_if_done(context, state, now)?;
            if !(sent && !self.blocked || written && state.has_turns() || read || parted) {
                self.flush(context, state)?;
                self.arm(context);
                return Ok(false);
            }
        }
        context.waker().wake_by_ref();
        Ok(false)
    }

    /// Writes until the socket takes no more. Returns whether it took anything.
    fn write(&mut self, context: &mut Context<'_>, state: &mut State) -> io::Result<bool> {
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

    fn flush(&mut self, context: &mut Context<'_>, state: &State) -> Result<(), Failure> {
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
    fn read(
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
            let used = self.receive(state, bytes, wakers, now)?;
            self.partial.clear();
            self.partial.extend_from_slice(&bytes[used..]);
            Ok((true, state.connection.is_closed()))
        })
    }

    fn receive(
        &self,
        state: &mut State,
        bytes: &mut [u8],
        wakers: &mut Vec<Waker>,
        now: Instant,
    ) -> Result<usize, Failure> {
        state
            .receive(bytes, wakers, now)
            .map_err(|error| Failure::protocol(self.peer.address, &error))
    }

    /// Says the last word once nothing is left on a tunnel that retires, and shuts the sending side down behind it. Returns whether it did.
    fn part_if_done(&mut self, context: &mut Context<'_>, state: &mut State, now: Instant) -> Result<bool, Failure> {
        let done = state.life.is_retiring()
            && state.connection.streams() == 0
            && (self.role == Role::Client || state.connection.is_drained());
        if self.stage == Stage::Open && (done || state.life.is_parting()) {
            self.part(state, now);
            return Ok(true);
        }
        if self.stage == Stage::Parting && !state.connection.has_output() {
            match Pin::new(&mut self.socket).poll_shutdown(context) {
                Poll::Pending => return Ok(false),
                // The peer was faster.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::NotConnected => {}
                Poll::Ready(Err(error)) => return Err(Failure::tunnel(self.peer.address, &error)),
                Poll::Ready(Ok(())) => {}
            }
            self.stage = Stage::Closing;
            return Ok(true);
        }
        Ok(false)
    }

    fn part(&mut self, state: &mut State, now: Instant) {
        state.life.part(now);
        state.connection.close();
        self.stage = Stage::Parting;
        self.look_at = now + LINGER;
    }

    /// Reads to the end what the peer of a closed tunnel still says. Returns whether it has ended.
    fn discard(&mut self, context: &mut Context<'_>) -> Result<bool, Failure> {
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

    /// Does what is due. Returns whether the tunnel has ended in order.
    fn timers(
        &mut self,
        now: Instant,
        state: &mut State,
        wakers: &mut Vec<Waker>,
        changes: &mut Vec<Change>,
    ) -> Result<bool, Failure> {
        if self.doubt_at.is_some_and(|at| now >= at) {
            self.doubt_at = None;
            if let Some(news) = state.life.doubt() {
                if news {
                    tracing::info!(peer = %self.peer.address, "a tunnel gives no sign of life; opening another beside it");
                    changes.push(Change::Doubted);
                }
                state.fail_unanswered(&self.lost("no sign of life from the peer"), wakers);
            }
        }
        if now >= self.look_at {
            if self.stage == Stage::Open {
                self.look_at = now + self.settings.look;
                self.look(state, now)?;
            } else {
                self.look_at = now + LINGER;
                if !self.may_linger(state, now) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Has the timer wake us when something is due next.
    fn arm(&mut self, context: &mut Context<'_>) {
        let next = self.doubt_at.map_or(self.look_at, |at| at.min(self.look_at));
        if self.timer.deadline() != next.into() {
            self.timer.as_mut().reset(next.into());
        }
        // The time is still to come; this makes it wake us then.
        let _ = self.timer.as_mut().poll(context);
    }

    /// Whether to wait longer for the peer of a tunnel that parts.
    fn may_linger(&self, state: &mut State, now: Instant) -> bool {
        let kernel = self.socket.send_state();
        if let Some(kernel) = kernel {
            state.life.acknowledge(kernel.acknowledged, now);
        }
        // Where nobody knows, something may be under way.
        let owes = state.connection.has_output() || kernel.is_none_or(|kernel| kernel.outstanding);
        let more = state.life.may_linger(owes, now);
        if !more && owes {
            tracing::warn!(peer = %self.peer.address, role = ?self.role, "a peer no longer takes what a closing tunnel sends");
        }
        more
    }

    /// The regular look at an open tunnel.
    fn look(&mut self, state: &mut State, now: Instant) -> Result<(), Failure> {
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        state.sweep(now);
        let held = self.vouched.credentials.credentials(&self.vouched.own);
        let mut verifications = 1;
        let proof = &mut self.vouched.proof;
        match proof.look(
            SystemTime::now(),
            held.as_deref(),
            Some(&self.peer.identity),
            &mut verifications,
        ) {
            Finding::Holds => {}
            Finding::Expired(why) => self.give_up(state, why, now),
            Finding::Broken(why) if !state.life.is_stale() => {
                state.life.expire(now);
                self.give_up(state, why, now);
            }
            Finding::Broken(_) => {}
        }
        let load = Load {
            streams: state.connection.streams(),
            greeted: state.connection.is_greeted(),
            paused: false,
        };
        match state.life.look(now, &self.settings.limits, load) {
            Act::Nothing => {}
            Act::Ping => state.connection.ping(PING),
            Act::Retire => state.retire(now),
            Act::Part => self.part(state, now),
            Act::Abort => {
                state.connection.abort(ErrorCode::SettingsTimeout);
                return Err(self.lost("the peer does not begin to speak HTTP/2, or does not acknowledge our settings"));
            }
            Act::Silent => return Err(self.lost("the peer does not answer pings")),
            Act::Stale => return Err(self.lost("the certificates that opened it no longer hold")),
        }
        Ok(())
    }

    /// No new streams on this tunnel.
    fn give_up(&self, state: &mut State, why: &'static str, now: Instant) {
        tracing::info!(
            peer = %self.peer.address, identity = %self.peer.identity, own = %self.vouched.own,
            streams = state.connection.streams(), why, "a tunnel takes no new connections"
        );
        state.retire(now);
    }

    /// Gathers what the pool must know.
    fn tell(&mut self, state: &mut State, changes: &mut Vec<Change>) {
        let streams = state.connection.streams();
        if streams == 0 && self.carried > 0 {
            state.life.idle(now());
        }
        self.carried = streams;
        if state.life.is_retiring() && !std::mem::replace(&mut self.left, true) {
            changes.push(Change::Leaves);
        }
        let can_open = state.connection.can_open();
        let freed = std::mem::take(&mut state.freed);
        if can_open && !self.left && (freed || !self.could_open) {
            changes.push(Change::Free);
        }
        self.could_open = can_open;
    }

    fn lost(&self, why: &str) -> Failure {
        Failure::Tunnel {
            to: self.peer.address,
            why: why.into(),
            final_: false,
        }
    }

    fn closed(&self) -> Failure {
        self.lost("closed in order")
    }

    fn over(
        &self,
        state: &mut State,
        failure: Failure,
        wakers: &mut Vec<Waker>,
        changes: &mut Vec<Change>,
    ) -> Poll<()> {
        tracing::debug!(
            peer = %self.peer.address, identity = %self.peer.identity, role = ?self.role,
            streams = state.streams.len(), %failure, "a tunnel has ended"
        );
        state.end(failure, wakers);
        changes.push(Change::Over);
        Poll::Ready(())
    }
}
