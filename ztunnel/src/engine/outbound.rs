//! Connections that applications of this node open.
//!
//! accepted → `resolve` → a tunnel (see `pool`), a direct connection, or parked until the mesh knows more. A failed
//! attempt is resolved again: the answer may be another one by then.

use std::{
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use culvert_accounting::{Direction, Peer};
use culvert_dns::{Names, forward::RESOLVER_PORT};
use culvert_hbone::ErrorCode;
use culvert_state::{Awaited, Denial, Mesh, Outbound, WaypointAt};
use culvert_tunnel::failure::{Failure, errno};
use rustix::io::Errno;

use super::{
    flow::{Far, Flow, Phase, Stream},
    keys::FlowKey,
    loop_state::{Loop, Todo},
    poll::{Kind, Token},
    pool_key::PoolKey,
    socket::{self, Socket},
    sockets::{LocalPod, Waiter},
    timer::Due,
    tunnel::Tunnel,
};
use crate::seam::ListenerRole;

/// Before another address is picked for a connection to an application. It hardly ever comes to that.
const PICK_AGAIN: Duration = Duration::from_millis(1);

/// Whether the next attempt of a flow would go to a target that it has not tried, or end otherwise.
fn leads_elsewhere(mesh: &Mesh, names: &Names<FlowKey>, flow: &Flow, now: Instant) -> bool {
    let tried = &flow.attempts.tried;
    match mesh.outbound_past(&flow.pod.pod, flow.destination, flow.tried()) {
        Outbound::Tunnel { endpoint, .. } => !tried.contains(&endpoint.target()),
        Outbound::Direct { destination, .. } => !tried.contains(&destination),
        Outbound::Resolve(named) => {
            let uid = &flow.pod.pod.uid;
            !flow.attempts.names.contains(&named.host)
                && names.has_untried(uid, &named.host, &flow.tried_at(named.port), now)
        }
        Outbound::Pending(_) | Outbound::Deny(_) => true,
    }
}

/// Whether a flow whose peer serves no tunnel goes to the peer itself: the endpoint that it was to reach is the workload's own
/// address, and both ends want it.
fn goes_direct(mesh: &Mesh, flow: &Flow, failure: &Failure) -> bool {
    let Failure::NoTunnel { to } = failure else {
        return false;
    };
    let peer = flow.peer.workload.as_deref();
    flow.waypoint.is_none()
        && to.ip() == flow.target.ip()
        && peer.is_some_and(|peer| mesh.may_go_direct(&flow.pod.pod, peer))
}

impl Loop {
    /// An application's captured connection.
    pub(super) fn accept_outbound(&mut self, pod: Rc<LocalPod>, fd: OwnedFd, source: SocketAddr) {
        let own = |address: &SocketAddr| {
            let port = pod.own_ports.iter().find(|(role, _)| *role == ListenerRole::Outbound);
            pod.pod.addresses.contains(&address.ip()) && port.is_some_and(|(_, port)| *port == address.port())
        };
        let captured = (self.config.calls.original_destination)(fd.as_fd(), source.is_ipv4()).map(socket::canonical);
        let captured = captured.ok().filter(|address| !own(address));
        let destination = captured
            .or_else(|| socket::local_address(fd.as_fd()).ok())
            .unwrap_or(source);
        let mut flow = Flow::new(
            Direction::Outbound,
            &pod,
            source,
            destination,
            self.now + self.config.connect_timeout,
        );
        flow.near = Some(Socket::accepted(fd));
        let key = self.add_flow(flow);
        if captured.is_some() && destination.port() == RESOLVER_PORT && pod.resolves {
            self.wait_for_query(key);
        } else if captured.is_some() {
            self.resolve_outbound(key);
        } else {
            self.end(key, Err(Failure::NotCaptured));
        }
    }

    /// A connection to a resolver, for which the mesh may answer.
    fn wait_for_query(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.phase = Phase::Asking;
        let watched = flow
            .near
            .as_ref()
            .map(|near| self.poll.watch(near, Token::new(Kind::Near, key)));
        match watched {
            Some(Err(error)) => self.end(key, Err(Failure::Local(errno(&error)))),
            _ => self.todo.push_back(Todo::Ask(key, false)),
        }
    }

    /// Decides where an outbound flow goes, and goes there.
    pub(super) fn resolve_outbound(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.attempts.number += 1;
        let number = flow.attempts.number;
        if self.mesh.on_demand() {
            self.used.insert(flow.destination.ip());
        }
        let decision = match self.decide_outbound(key) {
            Some(Ok(decision)) => decision,
            Some(Err(failure)) => return self.attempt_failed(key, failure),
            None => return,
        };
        let Some(flow) = self.flows.get_mut(key) else { return };
        if let Outbound::Direct { service: Some(_), .. } | Outbound::Tunnel { service: Some(_), .. } = &decision {
            self.timers
                .set(self.now + self.config.attempt_timeout, Due::Attempt(key, number));
        }
        match decision {
            Outbound::Pending(awaited) => self.park(key, awaited),
            Outbound::Deny(denial) => self.end(key, Err(Failure::Denied(denial))),
            // Nothing but a decision about an address is left.
            Outbound::Resolve(_) => {}
            Outbound::Direct {
                destination,
                workload,
                service,
            } => {
                flow.peer = Peer {
                    identity: None,
                    workload,
                };
                flow.service = service;
                flow.tunnel_address = None;
                flow.waypoint = None;
                flow.target = socket::canonical(destination);
                self.need_socket(key);
            }
            Outbound::Tunnel { endpoint, service } => {
                let pool = PoolKey::new(&flow.pod.pod, &endpoint);
                flow.target = endpoint.target();
                flow.tunnel_address = Some(endpoint.tunnel);
                flow.waypoint = endpoint.waypoint;
                self.used_hosts
                    .extend(flow.waypoint.as_ref().and_then(WaypointAt::host).cloned());
                flow.authority = endpoint.authority;
                flow.service = service;
                flow.peer = Peer {
                    identity: None,
                    workload: Some(endpoint.workload),
                };
                self.acquire(key, pool);
            }
        }
    }

    /// Waits until something is known.
    pub(super) fn park(&mut self, key: FlowKey, awaited: Awaited) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.phase = Phase::Parked;
        let pod = Rc::clone(&flow.pod);
        match &awaited {
            Awaited::Answer(_) | Awaited::Host(_) => self.ask_for(&pod, &awaited),
            Awaited::Owner(_) | Awaited::OwnerOrRanges(_) => {
                self.timers.set(self.now + self.config.unknown_wait, Due::Unknown(key));
            }
            _ => {}
        }
        self.parked.add(key, &awaited, &pod.pod);
        if let Some(flow) = self.flows.get_mut(key) {
            flow.awaits = Some(awaited);
        }
    }

    /// A flow has waited for somebody to appear at an address where nothing is sent in plaintext.
    pub(super) fn unknown(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get(key).filter(|flow| flow.phase == Phase::Parked) else {
            return;
        };
        if let Some(awaited @ (Awaited::Owner(_) | Awaited::OwnerOrRanges(_))) = &flow.awaits {
            let denial = Denial::NotKnown(awaited.clone());
            self.end(key, Err(Failure::Denied(denial)));
        }
    }

    /// Takes a socket in the pod's namespace and dials `target` with it, now or when there is one.
    pub(super) fn need_socket(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.phase = Phase::Stock;
        let socket = flow.pod.take_socket(Waiter::Flow(key), &self.shared.socket_requests);
        if let Some(socket) = socket {
            self.dial_flow(key, socket);
        }
    }

    /// Dials a flow's target. Gives the socket back if the flow no longer wants it.
    pub(super) fn dial_flow(&mut self, key: FlowKey, fd: OwnedFd) -> Option<OwnedFd> {
        let Some(flow) = self.flows.get_mut(key) else {
            return Some(fd);
        };
        if flow.phase == Phase::Meeting {
            return self.meet_with(key, fd);
        }
        if flow.phase != Phase::Stock {
            return Some(fd);
        }
        let target = flow.target;
        let picked = if flow.direction == Direction::Inbound {
            let told = (self.config.calls.set_client_address)(fd.as_fd(), flow.source);
            socket::leave_from_aside(fd.as_fd(), target, told)
        } else {
            let is_elsewhere = flow.tunnel_address.is_none() && !flow.pod.pod.addresses.contains(&flow.source.ip());
            if is_elsewhere {
                socket::leave_from(fd.as_fd(), flow.source.ip());
            }
            false
        };
        let kind = if flow.is_served() { Kind::Near } else { Kind::Far };
        let dialled =
            (self.config.calls.connect)(fd.as_fd(), target).and_then(|()| self.poll.watch(&fd, Token::new(kind, key)));
        if let Err(error) = dialled {
            // Another connection has the same address: with the next socket, another one is picked.
            if picked && Errno::from_io_error(&error) == Some(Errno::ADDRNOTAVAIL) {
                flow.phase = Phase::Delayed;
                self.timers.set(self.now + PICK_AGAIN, Due::Retry(key));
                return None;
            }
            self.attempt_failed(
                key,
                Failure::Connect {
                    to: target,
                    error: errno(&error),
                },
            );
            return None;
        }
        flow.phase = Phase::Connecting;
        match kind {
            Kind::Near => flow.near = Some(Socket::dialled(fd)),
            _ => flow.far = Far::Socket(Socket::dialled(fd)),
        }
        None
    }

    /// An attempt to connect failed: tries again where that is safe and may help, or gives up.
    pub(super) fn attempt_failed(&mut self, key: FlowKey, failure: Failure) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let retry = if flow.direction == Direction::Outbound && failure.is_of_endpoint() {
            if let Some(workload) = &flow.peer.workload {
                workload.trouble.note();
            }
            flow.note_failed(&failure, &self.names, self.now);
            let elsewhere = leads_elsewhere(&self.mesh, &self.names, flow, self.now);
            if !elsewhere && goes_direct(&self.mesh, flow, &failure) {
                return self.go_direct(key);
            }
            flow.attempts.failed(&failure, elsewhere)
        } else {
            None
        };
        match retry {
            Some(delay) if self.now + delay < flow.attempts.deadline => {
                tracing::debug!(destination = %flow.destination, %failure, ?delay, "trying again");
                flow.phase = Phase::Delayed;
                flow.far = Far::None;
                self.timers.set(self.now + delay, Due::Retry(key));
            }
            _ => self.end(key, Err(failure)),
        }
    }

    /// To the peer itself, past the tunnel that nobody serves there. Should that be refused too, the next attempt is one at the
    /// tunnel again.
    fn go_direct(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        if let Some(passed_over) = self.went_direct.line(self.now) {
            let (pod, to) = (&flow.pod.pod.uid, flow.target);
            tracing::warn!(%pod, %to, passed_over, "no proxy serves the peer's node: the connection goes direct, in plaintext");
        }
        self.shared.telemetry.proxy().fallback_connections.inc();
        flow.peer.identity = None;
        flow.tunnel_address = None;
        flow.attempts.tried.clear();
        flow.far = Far::None;
        self.need_socket(key);
    }

    /// An attempt has had its time. Where there is another endpoint, that is tried; else there is nothing better than to
    /// wait: the kernel repeats its packets by itself.
    pub(super) fn attempt_is_slow(&mut self, key: FlowKey, number: u32) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let waits = matches!(flow.phase, Phase::Queued | Phase::Requested | Phase::Connecting);
        if !waits || flow.attempts.number != number {
            return;
        }
        let (targets, names) = (flow.attempts.tried.len(), flow.attempts.names.len());
        let after = self.config.attempt_timeout;
        let failure = Failure::NoAnswer { to: flow.target, after };
        flow.note_failed(&failure, &self.names, self.now);
        let elsewhere = leads_elsewhere(&self.mesh, &self.names, flow, self.now);
        flow.attempts.tried.truncate(targets);
        flow.attempts.names.truncate(names);
        if !elsewhere {
            return;
        }
        match flow.phase {
            Phase::Queued => self.pool.withdraw(&key),
            _ => {
                if let Some(stream) = flow.stream() {
                    self.cancel_stream(stream);
                }
            }
        }
        self.attempt_failed(key, failure);
    }

    fn cancel_stream(&mut self, stream: Stream) {
        let tunnel = self.tunnels.get_mut(stream.tunnel);
        if let Some(connection) = tunnel.and_then(Tunnel::connection) {
            connection.reset(stream.id, ErrorCode::Cancel);
        }
        self.stream_gone(stream.tunnel, stream.id);
    }

    /// The connect timeout of a flow came.
    pub(super) fn deadline(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get(key) else { return };
        if flow.phase == Phase::Asking {
            // It asked what the mesh could answer, and nothing more.
            return self.end(key, Ok(()));
        }
        if flow.phase != Phase::Open {
            let failure = match (&flow.awaits, flow.phase) {
                // Nobody knows what the policy would have said.
                (Some(Awaited::Policy(name)), Phase::Parked) => {
                    Failure::Denied(Denial::PolicyMissing(Arc::clone(name)))
                }
                _ => Failure::Timeout {
                    after: self.config.connect_timeout,
                    waiting: flow.waiting(),
                },
            };
            self.end(key, Err(failure));
        }
    }
}
