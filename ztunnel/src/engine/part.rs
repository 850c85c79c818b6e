//! How tunnels end.
//!
//! One that retires carries on what it has; see [`culvert_tunnel::life`].

use std::{net::IpAddr, sync::Arc};

use culvert_hbone::{Role, StreamId};
use culvert_tunnel::{failure::Failure, life::LINGER};
use rustc_hash::FxHashMap;
use rustix::io::Errno;

use super::{
    flow::Phase,
    keys::{FlowKey, TunnelKey},
    loop_state::{Loop, Todo},
    socket,
    timer::Due,
    tunnel::{State, Tunnel},
};

type Streams = FxHashMap<StreamId, FlowKey>;

/// What peers may leave untaken of a pod's share before tunnels are cut for it: one part in so many.
const UNSENT_SHARE: u64 = 4;

/// Reads of a closed tunnel per round.
const DISCARDS: usize = 4;

impl Loop {
    /// Takes no new streams on this tunnel; closes it when the last one has ended.
    pub(super) fn retire_tunnel(&mut self, key: TunnelKey) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        tunnel.life.retire(tunnel.streams.len(), self.now);
        let group = tunnel.group;
        if let Some(connection) = tunnel.connection() {
            // Also where the peer was first to say so: without our own word the tunnel never counts as drained.
            connection.go_away();
            self.touch(key);
            if let Some(group) = group {
                self.leave_pool(group, key);
            }
            self.close_if_done(key);
        }
    }

    /// Closes a retiring tunnel once nothing is left on it.
    pub(super) fn close_if_done(&mut self, key: TunnelKey) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let State::Open(connection) = &tunnel.state else {
            return;
        };
        let done = tunnel.life.is_retiring()
            && tunnel.streams.is_empty()
            && (tunnel.role == Role::Client || connection.is_drained());
        if done || tunnel.life.is_parting() {
            self.part(key);
        }
    }

    /// Says the last word, and closes our side as soon as the kernel has taken it and all before it.
    pub(super) fn part(&mut self, key: TunnelKey) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let State::Open(connection) = &mut tunnel.state else {
            return;
        };
        if tunnel.life.part(self.now) {
            connection.close();
            self.timers.set(self.now + LINGER, Due::Tunnel(key));
        }
        if !tunnel.blocked {
            self.flush_tunnel(key);
        }
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        match &tunnel.state {
            State::Open(connection) if !connection.has_output() => {}
            _ => return, // comes back here when the kernel takes more
        }
        if let Some(fd) = &tunnel.fd {
            let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Write);
        }
        tunnel.state = State::Closing;
        // Not here: the loop's buffer may be in use, by what led here.
        self.read_again(key);
    }

    /// Reads to the end what the peer of a closed tunnel still says.
    pub(super) fn discard(&mut self, key: TunnelKey) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let Some(fd) = &tunnel.fd else { return };
        let mut buffer = self.buffer.take();
        // A peer that goes on sending must not keep the loop here.
        let mut ended = false;
        let mut more = true;
        for _ in 0..DISCARDS {
            match rustix::io::read(fd, &mut buffer[..]) {
                Ok(0) => ended = true,
                Ok(_) | Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {}
                Err(_) => ended = true,
            }
            more = false;
            break;
        }
        self.buffer.give_back(buffer);
        if more {
            self.read_again(key);
        }
        if ended {
            // Nothing is unread and nothing more comes, so the kernel goes on sending what it has.
            self.take_tunnel(key);
        }
    }

    /// Gives a tunnel that has said its last word up if the peer has everything but does not close, or takes nothing.
    pub(super) fn look_at_parting(&mut self, key: TunnelKey) {
        let now = self.now;
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let owes = tunnel.owes(now);
        if tunnel.life.may_linger(owes, now) {
            return self.timers.set(now + LINGER, Due::Tunnel(key));
        }
        if owes {
            tracing::warn!(peer = %tunnel.peer, role = ?tunnel.role, "a peer no longer takes what a closing tunnel sends");
            give_up_socket(tunnel);
        }
        self.take_tunnel(key);
    }

    /// A tunnel failed, whatever it was doing.
    pub(super) fn lose_tunnel(&mut self, key: TunnelKey, failure: &Failure) {
        let Some(mut tunnel) = self.take_tunnel(key) else {
            return;
        };
        let was_open = matches!(tunnel.state, State::Open(_));
        tracing::debug!(peer = %tunnel.peer, role = ?tunnel.role, streams = tunnel.streams.len(), %failure, "lost a tunnel");
        if tunnel.role == Role::Server && !was_open {
            self.report_refused_tunnel(&tunnel, failure);
        }
        if was_open && tunnel.blocked {
            give_up_socket(&mut tunnel);
        }
        // What the peer may have missed: the stream's end is queued behind it.
        let unsent = matches!(&tunnel.state, State::Open(connection) if connection.has_output());
        let streams = std::mem::take(&mut tunnel.streams);
        self.lose_streams(streams, tunnel.role, unsent, failure);
        if let Some(group) = tunnel.group {
            if was_open {
                self.leave_pool(group, key);
            } else {
                self.dial_failed(group, key, failure);
            }
        }
    }

    /// The peer of an open tunnel broke a rule, and the connection's last word, which says so, is queued. Its streams end at once;
    /// the socket is read to its end for a moment, since closing it with unread bytes would take the last word back.
    pub(super) fn dismiss_tunnel(&mut self, key: TunnelKey, failure: &Failure) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        tunnel.partial = Vec::new();
        tunnel.life.retire(0, self.now);
        let (streams, role) = (std::mem::take(&mut tunnel.streams), tunnel.role);
        if let Some(group) = tunnel.group {
            self.leave_pool(group, key);
        }
        self.lose_streams(streams, role, true, failure);
        self.part(key);
    }

    fn lose_streams(&mut self, streams: Streams, role: Role, unsent: bool, failure: &Failure) {
        for (_, flow) in streams {
            let open = self.flows.get(flow).is_some_and(|flow| flow.phase == Phase::Open);
            if open && self.outlives_tunnel(flow, unsent.then_some(failure)) {
                continue;
            }
            if open || role == Role::Server {
                self.end(flow, Err(Failure::TunnelLost(failure.to_string().into())));
            } else {
                self.todo.push_back(Todo::Failed(flow, failure.clone()));
            }
        }
    }

    /// What peers of this pod's tunnels do not take is a good part of what is held for it, and new streams are refused: whose peer
    /// takes least, over all its tunnels, loses one.
    pub(super) fn shed_unsent(&mut self, pod: &Arc<str>) {
        while self.budget.refuses(pod) {
            let mut peers: FxHashMap<IpAddr, (usize, usize, TunnelKey)> = FxHashMap::default();
            for (key, tunnel) in self.tunnels.iter_mut() {
                if tunnel.unsent > 0 && tunnel.pod.pod.uid == *pod {
                    let (sum, most, fullest) = peers.entry(tunnel.peer.ip()).or_insert((0, 0, key));
                    *sum += tunnel.unsent;
                    if tunnel.unsent > *most {
                        (*most, *fullest) = (tunnel.unsent, key);
                    }
                }
            }
            let all: usize = peers.values().map(|(sum, ..)| sum).sum();
            let worst = peers.into_values().max_by_key(|(sum, ..)| *sum);
            let Some((_, unsent, key)) = worst.filter(|_| all as u64 > self.budget.pod_limit() / UNSENT_SHARE) else {
                return;
            };
            let Some(peer) = self.tunnels.get(key).map(|tunnel| tunnel.peer) else {
                return;
            };
            self.complain(key, "does not take what is sent to it, and too much is held", unsent);
            let given_up = &self.shared.telemetry.proxy().tunnels_given_up;
            given_up.get_or_create(&[("reason", "memory")]).inc();
            let failure = Failure::Tunnel {
                to: peer,
                why: "the peer does not take what is sent to it".into(),
                final_: false,
            };
            self.lose_tunnel(key, &failure);
        }
    }

    /// Sends what the round has gathered, one write per tunnel.
    pub(super) fn flush_dirty(&mut self) {
        // Ending a lost tunnel's flows may touch others.
        while let Some(key) = self.dirty.pop() {
            let Some(tunnel) = self.tunnels.get_mut(key) else {
                continue;
            };
            tunnel.dirty = false;
            if !tunnel.blocked {
                self.flush_tunnel(key);
            }
            self.close_if_done(key);
        }
    }
}

/// Closes the socket of a tunnel whose peer takes nothing: the kernel is not left with what was for it.
fn give_up_socket(tunnel: &mut Tunnel) {
    if let Some(fd) = tunnel.fd.take() {
        socket::reset(fd);
    }
}
