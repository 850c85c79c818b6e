//! The task of one tunnel: it alone touches the socket.
//!
//! Each round gives streams their turns, writes, and reads, until none of it moves; then the task sleeps until the socket, a stream's owner
//! or the regular look wakes it. A tunnel that retires carries on what it has. When its last stream has ended it says its last word, shuts
//! the socket's sending side down behind it, and reads until the peer does the same: closing a socket with unread bytes makes the kernel
//! reset the connection and throw away what the peer has not taken (RFC 2525 section 2.17).
//!
//! This file has the rounds; `bytes` reads and writes, `times` does what is due.

mod bytes;
mod times;

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use culvert_hbone::Role;
use culvert_identity::SpiffeId;
use tokio::time::{Sleep, sleep_until};

use super::{
    clock::now,
    peer::Peer,
    settings::Settings,
    socket::{CredentialSource, Socket},
    state::{Shared, State},
};
use crate::{failure::Failure, life::LINGER, pace, proof::Proof};

/// Rounds and reads before other tasks of the thread get to run.
const ROUNDS: usize = 8;

/// What became of a tunnel that others must know.
#[derive(Debug)]
pub(in crate::io) enum Change {
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
pub(in crate::io) struct Vouched {
    pub(in crate::io) own: SpiffeId,
    pub(in crate::io) proof: Proof,
    pub(in crate::io) credentials: Arc<dyn CredentialSource>,
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
pub(in crate::io) struct Parts<S> {
    pub(in crate::io) socket: S,
    pub(in crate::io) shared: Arc<Shared>,
    pub(in crate::io) role: Role,
    pub(in crate::io) peer: Arc<Peer>,
    /// What came behind the handshake.
    pub(in crate::io) early: Vec<u8>,
    pub(in crate::io) settings: Arc<Settings>,
    pub(in crate::io) vouched: Vouched,
    pub(in crate::io) watch: Box<dyn Fn(Change) + Send>,
}

impl<S: Socket> Driver<S> {
    pub(in crate::io) fn new(parts: Parts<S>) -> Self {
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

/// A task that is dropped before its tunnel has ended, with its runtime or by who spawned it, takes the tunnel along.
impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        let mut wakers = Vec::new();
        {
            let mut state = self.shared.state.lock();
            if state.over.is_some() {
                return;
            }
            state.end(Failure::TunnelLost("its task was dropped".into()), &mut wakers);
        }
        wakers.into_iter().for_each(Waker::wake);
        (self.watch)(Change::Over);
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
            let used = self.receive(state, &mut early, wakers, now);
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
