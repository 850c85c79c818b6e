//! What a tunnel does because of the time.

use std::{
    future::Future as _,
    task::{Context, Waker},
    time::{Instant, SystemTime},
};

use culvert_hbone::ErrorCode;

use super::{Change, Driver, Stage};
use crate::{
    failure::Failure,
    io::{
        socket::Socket,
        state::{PING, State},
    },
    life::{Act, LINGER, Load},
    proof::Finding,
};

impl<S: Socket> Driver<S> {
    /// Does what is due. Returns whether the tunnel has ended in order.
    pub(super) fn timers(
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
    pub(super) fn arm(&mut self, context: &mut Context<'_>) {
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
}
