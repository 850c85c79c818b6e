//! What arrives on tunnels: reading, and acting on what the protocol says.

use std::{io::IoSlice, sync::Arc};

use culvert_hbone::{ErrorCode, ProtocolError, Role, StreamId, TlsError};
use culvert_tunnel::failure::Failure;
use rustix::io::Errno;

use super::{
    buffers::TUNNEL_READ,
    events::{Events, Told},
    flow::{Far, Phase},
    keys::TunnelKey,
    loop_state::Loop,
    poll::Event,
    tunnel::State,
};

/// Reads of one tunnel per round, 1 MiB each.
const BUDGET: usize = 4;

impl Loop {
    /// Something happened on a tunnel's socket.
    pub(super) fn tunnel_event(&mut self, key: TunnelKey, event: &Event) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        tunnel.readable |= event.readable || event.closing;
        tunnel.closing |= event.closing;
        match &tunnel.state {
            State::Stock => {}
            State::Connecting if event.writable || event.hangup => self.tunnel_connected(key),
            State::Connecting => {}
            State::Uncertified => {
                if event.hangup {
                    let failure = Failure::Tunnel {
                        to: tunnel.peer,
                        why: "hung up".into(),
                        final_: false,
                    };
                    self.lose_tunnel(key, &failure);
                }
            }
            State::Handshake(_) => {
                if event.writable {
                    self.flush_tunnel(key);
                }
                self.shake(key);
            }
            State::Open(_) => {
                if event.writable && tunnel.blocked {
                    self.unblock_tunnel(key);
                }
                if self.tunnels.get(key).is_some_and(|tunnel| tunnel.readable) {
                    self.read_tunnel(key);
                }
            }
            State::Closing => self.discard(key),
        }
    }

    /// The kernel takes more again.
    pub(super) fn unblock_tunnel(&mut self, key: TunnelKey) {
        self.flush_tunnel(key);
        if self.tunnels.get(key).is_some_and(|tunnel| !tunnel.blocked) {
            self.measure(key);
            self.send_streams(key);
            // What was left of a tunnel that ends is out now, perhaps.
            self.close_if_done(key);
        }
    }

    /// Reads what has arrived, up to a budget.
    pub(super) fn read_tunnel(&mut self, key: TunnelKey) {
        if let Some(tunnel) = self.tunnels.get_mut(key) {
            tunnel.queued = false;
        }
        self.read_tunnel_from(key, false);
    }

    pub(super) fn read_tunnel_from(&mut self, key: TunnelKey, mut partial: bool) {
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
            let mut violation = None;
            let mut end = have;
            if tunnel.readable {
                match rustix::io::read(fd, &mut buffer[have..have + TUNNEL_READ]) {
                    Ok(0) => eof = true,
                    Ok(count) => {
                        end += count;
                        // A short read has emptied the socket, unless an end is behind the bytes.
                        tunnel.readable = count == TUNNEL_READ || tunnel.closing;
                        alive = tunnel.life.hear(self.now);
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
                let (peer, parting) = (tunnel.peer, tunnel.life.is_parting());
                eof |= connection.is_closed();
                self.touch(key);
                self.handle(key, &mut events);
                self.events = events.reuse();
                match result {
                    Ok(consumed) => {
                        if let Some(tunnel) = self.tunnels.get_mut(key) {
                            tunnel.keep_partial(&buffer[consumed..end]);
                        }
                    }
                    // It was told before, and the rest of what it said is of no interest.
                    Err(_) if parting => {}
                    Err(error) => violation = Some((Failure::protocol(peer, &error), error)),
                }
            }
            self.buffer.give_back(buffer);
            self.buffer.note(end);
            if let Some((failure, error)) = violation {
                return self.violated(key, &failure, &error);
            }
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

    /// The peer broke a rule or exceeded a limit; what it is told is queued.
    fn violated(&mut self, key: TunnelKey, failure: &Failure, error: &ProtocolError) {
        // A peer that gives up, for whatever reason, breaks no rule.
        if !matches!(error, ProtocolError::Tls(TlsError::Alert(_))) {
            self.complain(key, &error.to_string(), 0);
            let violations = &self.shared.telemetry.proxy().peer_violations;
            violations.get_or_create(&[("reason", error.name())]).inc();
        }
        self.dismiss_tunnel(key, failure);
    }

    /// The peer takes no new streams, or opens none any more.
    fn peer_leaves(&mut self, key: TunnelKey) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        if tunnel.role == Role::Server {
            return self.retire_tunnel(key);
        }
        tunnel.life.retire(tunnel.streams.len(), self.now);
        if let Some(group) = tunnel.group {
            self.leave_pool(group, key);
        }
    }

    /// The peer closed its side.
    fn tunnel_ended(&mut self, key: TunnelKey) {
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
    fn handle<'b>(&mut self, key: TunnelKey, events: &mut Events<'b>) {
        let mut gathered: Option<StreamId> = None;
        for told in events.list.drain(..) {
            // Data of one stream, also from many frames, goes to its application in one `writev`.
            if let Told::Data(id, data) = told {
                if let Some(other) = gathered.filter(|other| *other != id) {
                    self.deliver(key, other, &events.slices, false);
                    events.slices.clear();
                }
                gathered = Some(id);
                events.slices.push(IoSlice::new(data));
                continue;
            }
            if let Some(id) = gathered.take() {
                let last = matches!(told, Told::End(ended) if ended == id);
                self.deliver(key, id, &events.slices, last);
                events.slices.clear();
            }
            match told {
                // After the last word nothing can be answered; its end makes the peer ask elsewhere.
                Told::Connect(..) if self.tunnels.get(key).is_some_and(|tunnel| tunnel.life.is_parting()) => {}
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
            self.deliver(key, id, &events.slices, false);
        }
    }

    /// The peer answered a CONNECT.
    fn answered(&mut self, key: TunnelKey, id: StreamId, status: u16, reason: Option<Arc<str>>) {
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

    fn stream_ended(&mut self, key: TunnelKey, id: StreamId) {
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

    fn stream_reset(&mut self, key: TunnelKey, id: StreamId, code: ErrorCode) {
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

    /// A window that concerns all streams opened: goes on with those that have something to send.
    fn continue_streams(&mut self, key: TunnelKey) {
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

    /// A doubted peer was heard of after all.
    fn trust_tunnel(&mut self, key: TunnelKey) {
        let Some(tunnel) = self.tunnels.get(key) else { return };
        match tunnel.group {
            _ if tunnel.life.is_retiring() => {}
            Some(group) if self.pool.key(group).is_some() => self.join_pool(group, key),
            _ => self.retire_tunnel(key), // nobody will ask it for anything
        }
    }
}
