//! Bytes of tunnels: reading, writing, and acting on what the protocol says.

use std::{io::IoSlice, os::fd::AsFd as _, sync::Arc};

use culvert_hbone::{ErrorCode, Role, StreamId};
use culvert_net::tcp_state;
use rustix::io::Errno;

use super::{
    Loop,
    arena::Key,
    buffers::TUNNEL_READ,
    event_loop::Again,
    events::{Events, Told},
    failure::Failure,
    flow::{Far, Phase},
    pace,
    tunnel::{State, Tunnel},
};

/// Reads of one tunnel per round, 1 MiB each.
const BUDGET: usize = 4;

impl Loop {
    /// Reads what has arrived, up to a budget.
    pub(super) fn read_tunnel(&mut self, key: Key<Tunnel>) {
        if let Some(tunnel) = self.tunnels.get_mut(key) {
            tunnel.queued = false;
        }
        self.read_tunnel_from(key, false);
    }

    pub(super) fn read_tunnel_from(&mut self, key: Key<Tunnel>, mut partial: bool) {
        for _ in 0..BUDGET {
            let Some(tunnel) = self.tunnels.get_mut(key) else {
                return;
            };
            let connection = match &mut tunnel.state {
                State::Open(connection) => connection,
                State::Closing => return self.discard(key),
                _ => return,
            };
            let Some(fd) = &tunnel.fd else { return };
            partial &= !tunnel.partial.is_empty();
            if tunnel.paused || !(tunnel.readable || partial) {
                return;
            }
            let mut buffer = self.buffer.take();
            let have = tunnel.partial.len();
            buffer[..have].copy_from_slice(&tunnel.partial);
            let mut eof = false;
            let mut alive = false;
            let mut failure = None;
            let mut end = have;
            if tunnel.readable {
                match rustix::io::read(fd, &mut buffer[have..have + TUNNEL_READ]) {
                    Ok(0) => eof = true,
                    Ok(count) => {
                        end += count;
                        // A short read has emptied the socket, unless an end is behind the bytes.
                        tunnel.readable = count == TUNNEL_READ || tunnel.closing;
                        tunnel.heard = self.now;
                        tunnel.pinged = None;
                        alive = std::mem::take(&mut tunnel.doubted);
                    }
                    Err(Errno::AGAIN) => tunnel.readable = false,
                    Err(Errno::INTR) => {}
                    Err(error) => failure = Some(Failure::tunnel(tunnel.peer, &error.into())),
                }
            }
            if end > have || partial {
                partial = false;
                let mut events = std::mem::take(&mut self.events).reuse();
                let result = connection.receive(&mut buffer[..end], &mut events);
                let peer = tunnel.peer;
                eof |= connection.is_closed();
                self.touch(key);
                self.handle(key, &mut events);
                self.events = events.reuse();
                match result {
                    Ok(consumed) => {
                        if let Some(tunnel) = self.tunnels.get_mut(key) {
                            tunnel.partial.clear();
                            tunnel.partial.extend_from_slice(&buffer[consumed..end]);
                        }
                    }
                    Err(error) => failure = Some(Failure::protocol(peer, &error)),
                }
            }
            self.buffer.give_back(buffer);
            if let Some(failure) = failure {
                self.flush_tunnel(key); // it says why
                return self.lose_tunnel(key, &failure);
            }
            if eof {
                return self.tunnel_ended(key);
            }
            if alive {
                self.trust_tunnel(key);
            }
            self.close_if_done(key);
        }
        if self
            .tunnels
            .get(key)
            .is_some_and(|tunnel| tunnel.readable && !tunnel.paused)
        {
            self.read_again(key);
        }
    }

    /// The peer takes no new streams, or opens none any more.
    fn peer_leaves(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        if tunnel.role == Role::Server {
            return self.retire_tunnel(key);
        }
        tunnel.retiring = true;
        if let Some(group) = tunnel.group {
            self.leave_pool(group, key);
        }
    }

    /// The peer closed its side.
    fn tunnel_ended(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get(key) else { return };
        let failure = Failure::Tunnel {
            to: tunnel.peer,
            why: "closed by the peer".into(),
            final_: false,
        };
        self.flush_tunnel(key);
        self.lose_tunnel(key, &failure);
    }

    /// Acts on what the peer said.
    fn handle<'b>(&mut self, key: Key<Tunnel>, events: &mut Events<'b>) {
        let mut gathered: Option<StreamId> = None;
        for told in events.list.drain(..) {
            // Data of one stream, also from many frames, goes to its application in one `writev`.
            if let Told::Data(id, data) = told {
                if let Some(other) = gathered.filter(|other| *other != id) {
                    self.deliver(key, other, &events.slices);
                    events.slices.clear();
                }
                gathered = Some(id);
                events.slices.push(IoSlice::new(data));
                continue;
            }
            if let Some(id) = gathered.take() {
                self.deliver(key, id, &events.slices);
                events.slices.clear();
            }
            match told {
                // After the last word nothing can be answered; its end makes the peer ask elsewhere.
                Told::Connect(..) if self.tunnels.get(key).is_some_and(|tunnel| tunnel.parting) => {}
                Told::Connect(id, _) if self.refuse_stream(key, id) => {}
                Told::Connect(id, request) => self.serve(key, id, *request),
                Told::Response(id, status, reason) => self.answered(key, id, status, reason),
                Told::End(id) => self.stream_ended(key, id),
                Told::Reset(id, code) => self.stream_reset(key, id, code),
                Told::Writable(id) => {
                    let flow = self
                        .tunnels
                        .get(key)
                        .and_then(|tunnel| tunnel.streams.get(&id).copied());
                    if let Some(flow) = flow {
                        self.continue_flow(flow);
                    }
                }
                Told::AllWritable => self.continue_streams(key),
                Told::GoAway => self.peer_leaves(key),
                Told::Data(..) => {}
            }
        }
        if let Some(id) = gathered {
            self.deliver(key, id, &events.slices);
        }
    }

    /// The peer answered a CONNECT.
    fn answered(&mut self, key: Key<Tunnel>, id: StreamId, status: u16, reason: Option<Arc<str>>) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let Some(flow) = tunnel.streams.get(&id).copied() else {
            return;
        };
        if (200..300).contains(&status) {
            return self.open(flow);
        }
        if let State::Open(connection) = &mut tunnel.state {
            connection.reset(id, ErrorCode::Cancel);
        }
        self.stream_gone(key, id);
        self.attempt_failed(
            flow,
            Failure::Refused {
                status,
                reason: reason.unwrap_or_else(|| "no reason given".into()),
            },
        );
    }

    fn stream_ended(&mut self, key: Key<Tunnel>, id: StreamId) {
        let flow_key = self
            .tunnels
            .get(key)
            .and_then(|tunnel| tunnel.streams.get(&id).copied());
        let Some(flow_key) = flow_key else { return };
        let Some(flow) = self.flows.get_mut(flow_key) else {
            return;
        };
        if let Far::Stream(stream) = &mut flow.far {
            stream.ended = true;
        }
        self.settle(flow_key);
    }

    fn stream_reset(&mut self, key: Key<Tunnel>, id: StreamId, code: ErrorCode) {
        let flow_key = self
            .tunnels
            .get(key)
            .and_then(|tunnel| tunnel.streams.get(&id).copied());
        let Some(flow_key) = flow_key else { return };
        self.stream_gone(key, id);
        let open = self.flows.get(flow_key).is_some_and(|flow| flow.phase == Phase::Open);
        if open {
            self.end(flow_key, Err(Failure::ResetByPeer(code)));
        } else {
            self.attempt_failed(flow_key, Failure::ResetByPeer(code));
        }
    }

    /// A stream is over on both sides.
    pub(super) fn stream_gone(&mut self, key: Key<Tunnel>, id: StreamId) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        tunnel.streams.remove(&id);
        if tunnel.streams.is_empty() {
            tunnel.idle_since = self.now;
        }
        if tunnel.paused {
            self.resume_tunnel(key);
        }
        self.touch(key);
        let Some(tunnel) = self.tunnels.get(key) else { return };
        if let (Some(group), Role::Client, false) = (tunnel.group, tunnel.role, tunnel.retiring) {
            self.serve_waiting(group);
        }
    }

    /// Something is to be sent on this tunnel, at the end of the round.
    pub(super) fn touch(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        if !tunnel.dirty {
            tunnel.dirty = true;
            self.dirty.push(key);
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

    /// Writes until the kernel takes no more.
    pub(super) fn flush_tunnel(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let Some(fd) = &tunnel.fd else { return };
        let result = loop {
            let handshake = !tunnel.outgoing.is_empty();
            let bytes = match &mut tunnel.state {
                _ if handshake => tunnel.outgoing.bytes(),
                State::Open(connection) => connection.output(),
                _ => break Ok(false),
            };
            if bytes.is_empty() {
                break Ok(false);
            }
            let length = bytes.len();
            match rustix::io::write(fd, bytes) {
                Ok(count) => {
                    match &mut tunnel.state {
                        _ if handshake => tunnel.outgoing.consume(count),
                        State::Open(connection) => connection.written(count),
                        _ => {}
                    }
                    if count < length {
                        break Ok(true);
                    }
                }
                Err(Errno::AGAIN) => break Ok(true),
                Err(Errno::INTR) => {}
                Err(error) => break Err(error),
            }
        };
        match result {
            Ok(blocked) => tunnel.blocked = blocked,
            Err(error) => {
                // What the peer said before it went may still be there to read, and says more than this error.
                tunnel.blocked = true;
                tunnel.readable = true;
                tunnel.closing = true;
                tracing::debug!(peer = %tunnel.peer, %error, "cannot write to a tunnel");
                if matches!(tunnel.state, State::Open(_)) {
                    self.read_again(key);
                }
            }
        }
    }

    /// The kernel takes more again.
    pub(super) fn unblock_tunnel(&mut self, key: Key<Tunnel>) {
        self.flush_tunnel(key);
        if self.tunnels.get(key).is_some_and(|tunnel| !tunnel.blocked) {
            self.measure(key);
            self.send_streams(key);
            // What was left of a tunnel that ends is out now, perhaps.
            self.close_if_done(key);
        }
    }

    /// A window that concerns all streams opened: goes on with those that have something to send.
    fn continue_streams(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        for flow_key in tunnel.streams.values() {
            let Some(flow) = self.flows.get_mut(*flow_key) else {
                continue;
            };
            if flow.phase == Phase::Open && !flow.queued && flow.near.as_ref().is_some_and(|near| near.readable) {
                flow.queued = true;
                tunnel.turns.enter(*flow_key);
            }
        }
        self.send_streams(key);
    }

    /// The network is the bottleneck: bounds what waits in the kernel by what the network takes in a moment.
    fn measure(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let Some(fd) = &tunnel.fd else { return };
        if self.now.saturating_duration_since(tunnel.measured) < pace::MEASURE {
            return;
        }
        tunnel.measured = self.now;
        let Ok(state) = tcp_state::send_state(fd.as_fd()) else {
            return;
        };
        let wanted = pace::ahead(&state, tunnel.ahead);
        if wanted != tunnel.ahead && tcp_state::set_unsent_limit(fd.as_fd(), wanted as u32).is_ok() {
            tunnel.ahead = wanted;
        }
    }

    /// Reads a tunnel in the next round.
    pub(super) fn read_again(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        if !std::mem::replace(&mut tunnel.queued, true) {
            self.again.push_back(Again::Tunnel(key));
        }
    }

    /// A pause is over.
    pub(super) fn resume_tunnel(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        if std::mem::take(&mut tunnel.paused) && tunnel.readable {
            self.read_again(key);
        }
    }
}
