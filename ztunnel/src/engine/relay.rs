//! Bytes of flows, between a socket and a stream, or between two sockets.
//!
//! Nothing is read that cannot be passed on: a socket is read only while the tunnel has window and room, or while the
//! other socket has taken everything before. The other way, a peer gets credit for a stream only for bytes that the
//! application's socket took; until then they are kept, a stream's window of them at most.

use std::io::{self, IoSlice};

use culvert_hbone::{Fill, StreamId};
use culvert_tunnel::{
    failure::{Failure, errno},
    pace,
    turns::Turn,
};
use rustix::io::Errno;

use super::{
    buffers::SOCKET_READ,
    flow::{Far, Phase},
    keys::{FlowKey, TunnelKey},
    loop_state::{Again, Loop},
    socket::{self, LARGE_READ, Socket},
    timer::Due,
    tunnel::{State, Tunnel},
};

/// Reads of one socket per round.
const BUDGET: usize = 4;

/// Bytes to read from a socket that sends little: two TLS records.
const SMALL_READ: usize = 2 * 16_375;

/// The same where several streams share a tunnel.
const SHARED_READ: usize = 256 << 10;

/// A read of so many bytes is followed by another of the kind.
const BULK: usize = 12_000;

/// Output that is worth a write before the round is over.
const FLUSH: usize = 512 << 10;

impl Loop {
    /// Ends the flow if an error is pending on its socket.
    pub(super) fn survives(&mut self, key: FlowKey, near: bool) -> bool {
        let Some(socket) = self.flows.get_mut(key).and_then(|flow| flow.side(near)) else {
            return false;
        };
        match socket::connected(&*socket) {
            Ok(()) => true,
            Err(error) => {
                self.end(key, Err(Failure::Reset(errno(&error))));
                false
            }
        }
    }

    /// Goes on with whatever a flow can do.
    pub(super) fn continue_flow(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        if flow.phase != Phase::Open {
            return;
        }
        match flow.far {
            Far::Stream(stream) => self.send(key, stream.tunnel),
            Far::Socket(_) => {
                flow.queued = false;
                self.copy(key, true);
                self.copy(key, false);
            }
            Far::Ended(_) | Far::None => {}
        }
    }

    fn later(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        if !flow.queued {
            flow.queued = true;
            self.again.push_back(Again::Flow(key));
        }
    }

    /// Socket to stream: when it is this flow's turn.
    fn send(&mut self, key: FlowKey, tunnel_key: TunnelKey) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let Some(tunnel) = self.tunnels.get_mut(tunnel_key) else {
            return;
        };
        if flow.queued || !flow.near.as_ref().is_some_and(|near| near.readable && !near.ended) {
            return;
        }
        flow.queued = true;
        tunnel.turns.enter(key);
        if !tunnel.turns.scheduled {
            self.send_streams(tunnel_key);
        }
    }

    /// Gives each stream of a tunnel that has something to send its turn, until the tunnel takes no more.
    pub(super) fn send_streams(&mut self, key: TunnelKey) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        tunnel.turns.scheduled = false;
        for _ in 0..tunnel.turns.len() {
            let Some(tunnel) = self.tunnels.get_mut(key) else {
                return;
            };
            if tunnel.blocked {
                return; // the tunnel's next event goes on here
            }
            let Some(turn) = tunnel.turns.next(quantum(tunnel)) else {
                return;
            };
            let flow = turn.flow;
            match self.turn(turn, key) {
                Sent::All => {
                    if let Some(flow) = self.flows.get_mut(flow) {
                        flow.queued = false;
                    }
                }
                Sent::Quantum(turn) => {
                    if let Some(tunnel) = self.tunnels.get_mut(key) {
                        tunnel.turns.again(turn);
                    }
                }
                Sent::Blocked(turn) => {
                    if let Some(tunnel) = self.tunnels.get_mut(key) {
                        tunnel.turns.cut_off(turn);
                    }
                    return;
                }
            }
        }
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        if !tunnel.blocked && !tunnel.turns.is_empty() && !std::mem::replace(&mut tunnel.turns.scheduled, true) {
            self.again.push_back(Again::Streams(key));
        }
    }

    /// One flow's turn.
    fn turn(&mut self, mut turn: Turn<FlowKey>, tunnel_key: TunnelKey) -> Sent {
        let mut reads = 0;
        let mut flushed = false;
        loop {
            let Some(flow) = self.flows.get_mut(turn.flow) else {
                return Sent::All;
            };
            let Some(stream) = flow.stream().filter(|stream| stream.tunnel == tunnel_key) else {
                return Sent::All;
            };
            let Some(near) = &mut flow.near else { return Sent::All };
            if !near.readable || near.ended {
                return Sent::All;
            }
            let Some(tunnel) = self.tunnels.get_mut(tunnel_key) else {
                return Sent::All;
            };
            if tunnel.blocked {
                return Sent::Blocked(turn);
            }
            if reads == BUDGET || turn.deficit == 0 {
                turn.deficit = 0;
                return Sent::Quantum(turn);
            }
            let (most, enough) = (read_size(tunnel), FLUSH.min(tunnel.ahead));
            let State::Open(connection) = &mut tunnel.state else {
                return Sent::All;
            };
            let max = if near.bulk { most } else { SMALL_READ };
            let mut offered = 0;
            let filled = connection.fill(stream.id, max.min(turn.deficit), |slices| {
                offered = slices.iter().map(|slice| slice.len()).sum();
                Ok(rustix::io::readv(&*near, slices)?)
            });
            match filled {
                Ok(Fill::Bytes(count)) => {
                    reads += 1;
                    flushed = false;
                    turn.deficit -= count;
                    // A read that was cut short by the turn's end says nothing.
                    near.bulk = count > BULK || near.bulk && count == offered;
                    near.took(count, offered);
                    flow.count(count, true);
                    if connection.output_len() >= enough {
                        self.flush_tunnel(tunnel_key);
                    }
                    self.touch(tunnel_key);
                }
                Ok(Fill::End) => {
                    near.ended = true;
                    connection.finish(stream.id);
                    self.touch(tunnel_key);
                    self.settle(turn.flow);
                    return Sent::All;
                }
                Ok(Fill::Blocked) => {
                    // Full output can be helped; a closed window opens when the peer says so.
                    if flushed || !connection.has_output() {
                        return if connection.connection_capacity() == 0 {
                            Sent::Blocked(turn)
                        } else {
                            Sent::All
                        };
                    }
                    flushed = true;
                    self.flush_tunnel(tunnel_key);
                }
                Err(error) => match errno(&error) {
                    Errno::AGAIN => {
                        near.found_nothing();
                        return Sent::All;
                    }
                    Errno::INTR => reads += 1,
                    error => {
                        self.end(turn.flow, Err(Failure::Reset(error)));
                        return Sent::All;
                    }
                },
            }
        }
    }

    /// Stream to socket. `last` says that the stream's end comes next.
    pub(super) fn deliver(&mut self, tunnel_key: TunnelKey, id: StreamId, slices: &[IoSlice<'_>], last: bool) {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let Some(tunnel) = self.tunnels.get_mut(tunnel_key) else {
            return;
        };
        let State::Open(connection) = &mut tunnel.state else {
            return;
        };
        let flow_key = tunnel.streams.get(&id).copied();
        let Some((flow_key, flow)) = flow_key.and_then(|key| self.flows.get_mut(key).map(|flow| (key, flow))) else {
            connection.release(id, total);
            return;
        };
        if flow.phase != Phase::Open {
            // A peer that does not wait for our answer.
            for slice in slices {
                flow.early.push(slice);
            }
            return self.account(flow_key);
        }
        flow.count(total, false);
        let Some(near) = &mut flow.near else { return };
        if near.shut {
            connection.release(id, total);
            return;
        }
        let written = if last {
            near.write_last(slices)
        } else {
            near.write(slices)
        };
        match written {
            Ok(taken) => {
                connection.release(id, taken);
                if !near.backlog.is_empty() && !tunnel.paused && tunnel.streams.len() == 1 {
                    // What stays in the kernel need not be copied. But others may want to open streams on this
                    // tunnel, so not for long.
                    tunnel.paused = true;
                    self.timers.set(self.now + self.config.pause, Due::Resume(tunnel_key));
                }
                if flow.held > 0 || !near.backlog.is_empty() {
                    self.account(flow_key);
                }
            }
            Err(error) => self.end(flow_key, Err(Failure::Reset(errno(&error)))),
        }
    }

    /// What came before the application was connected.
    pub(super) fn deliver_early(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.count(flow.early.len(), false);
        let (Some(stream), Some(near)) = (flow.stream(), &mut flow.near) else {
            return;
        };
        if !flow.early.is_empty() {
            let early: Vec<_> = flow.early.slices().collect();
            let result = near.write(&early);
            flow.early.clear();
            match result {
                Ok(taken) => self.release(stream.tunnel, stream.id, taken),
                Err(error) => return self.end(key, Err(Failure::Reset(errno(&error)))),
            }
            self.account(key);
        }
        self.settle(key);
    }

    /// Writes what a socket did not take before. Returns whether the flow is still there.
    pub(super) fn flush_side(&mut self, key: FlowKey, near: bool) -> bool {
        let Some(flow) = self.flows.get_mut(key) else {
            return false;
        };
        let stream = flow.stream();
        let Some(socket) = flow.side(near).filter(|socket| !socket.backlog.is_empty()) else {
            return true;
        };
        match socket.flush() {
            Ok(taken) => {
                let empty = socket.backlog.is_empty();
                self.account(key);
                if let Some(stream) = stream {
                    self.release(stream.tunnel, stream.id, taken);
                    if empty {
                        self.resume_tunnel(stream.tunnel);
                    }
                }
                if empty {
                    self.settle(key);
                }
                self.flows.get(key).is_some()
            }
            Err(error) => {
                self.end(key, Err(Failure::Reset(errno(&error))));
                false
            }
        }
    }

    fn release(&mut self, tunnel: TunnelKey, id: StreamId, count: usize) {
        if let Some(State::Open(connection)) = self.tunnels.get_mut(tunnel).map(|tunnel| &mut tunnel.state) {
            connection.release(id, count);
            self.touch(tunnel);
        }
    }

    /// Socket to socket.
    fn copy(&mut self, key: FlowKey, from_near: bool) {
        for _ in 0..BUDGET {
            let Some(flow) = self.flows.get_mut(key) else { return };
            let (Some(near), Far::Socket(far)) = (&mut flow.near, &mut flow.far) else {
                return;
            };
            let (from, to) = if from_near { (near, far) } else { (far, near) };
            if !from.readable || from.ended || !to.backlog.is_empty() {
                return;
            }
            let mut buffer = self.buffer.take();
            let result = relay(from, to, &mut buffer);
            self.buffer.give_back(buffer);
            match result {
                Ok(0) => return self.settle(key),
                Ok(count) => {
                    self.buffer.note(count);
                    flow.count(count, from_near);
                    self.account(key);
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(error) => return self.end(key, Err(Failure::Reset(error))),
            }
        }
        self.later(key);
    }
}

/// How a flow's turn ended.
enum Sent {
    /// It has no more to send now, or its own window is closed.
    All,
    /// It has more.
    Quantum(Turn<FlowKey>),
    /// The tunnel takes no more.
    Blocked(Turn<FlowKey>),
}

/// Most bytes to read for a stream of this tunnel at once.
fn read_size(tunnel: &Tunnel) -> usize {
    match tunnel.streams.len() {
        0 | 1 => LARGE_READ,
        // Where the network is slow, what one stream sends must not take long.
        _ => SHARED_READ.min((tunnel.ahead / 4).max(SMALL_READ)),
    }
}

/// Bytes of a stream's turn.
fn quantum(tunnel: &Tunnel) -> usize {
    if tunnel.ahead < pace::UNLIMITED {
        read_size(tunnel)
    } else {
        BUDGET * read_size(tunnel)
    }
}

/// One read and the write that follows. 0 is the end.
fn relay(from: &mut Socket, to: &mut Socket, buffer: &mut [u8]) -> Result<usize, Errno> {
    let buffer = &mut buffer[..SOCKET_READ];
    match rustix::io::read(&*from, &mut *buffer) {
        Ok(0) => {
            from.ended = true;
            Ok(0)
        }
        Ok(count) => {
            from.took(count, SOCKET_READ);
            to.write(&[IoSlice::new(&buffer[..count])])
                .map_err(|error: io::Error| errno(&error))?;
            Ok(count)
        }
        Err(error) => {
            if error == Errno::AGAIN {
                from.found_nothing();
            }
            Err(error)
        }
    }
}
