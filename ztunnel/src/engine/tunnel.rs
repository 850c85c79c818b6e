//! HBONE connections: how they come to be and how they end. What they carry is in `tunnel_io` and `relay`.
//!
//! ```text
//! dialled:  Stock -> Connecting -> Uncertified -> Handshake -> Open -> Closing
//! accepted:                        Uncertified -> Handshake -> Open -> Closing
//! ```
//! A tunnel that retires carries on what it has. When its last stream has ended it writes out everything, `close_notify`
//! last, then shuts its sending side down and reads until the peer does the same: closing a socket with unread bytes
//! makes the kernel reset the connection and throw away what the peer has not taken (RFC 2525 section 2.17).

use std::{
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use culvert_control::Ask;
use culvert_hbone::{Connection, Handshake, HandshakeError, Role, StreamId};
use culvert_identity::{IdentityError, SpiffeId};
use culvert_net::tcp_state;
use rustc_hash::FxHashMap;
use rustix::io::Errno;
use rustls::pki_types::ServerName;

use super::{
    Loop,
    arena::Key,
    buffers::Backlog,
    failure::Failure,
    flow::{Flow, Phase},
    handshake_pool::Step,
    pace,
    poll::{Event, Kind, Token},
    pool::Group,
    proof::Proof,
    socket,
    sockets::{LocalPod, Waiter},
    timer::Due,
    turns::Turns,
};

/// How long a closed tunnel waits for the peer to close too, once the peer has everything; and how often to look.
const LINGER: Duration = Duration::from_secs(2);

/// A peer that acknowledges nothing for so long while bytes are on their way to it is gone.
const STALLED: Duration = Duration::from_secs(20);

/// One HBONE connection.
pub(super) struct Tunnel {
    /// `None` while waiting for a socket.
    pub(super) fd: Option<OwnedFd>,
    pub(super) pod: Rc<LocalPod>,
    /// The other end of the TCP connection.
    pub(super) peer: SocketAddr,
    pub(super) role: Role,
    /// Where a dialled tunnel belongs in the pool.
    pub(super) group: Option<Key<Group>>,
    pub(super) state: State,
    /// What the peer's certificate proved.
    pub(super) identity: Option<SpiffeId>,
    pub(super) streams: FxHashMap<StreamId, Key<Flow>>,
    /// Bytes that its flows hold.
    pub(super) held: usize,
    /// What the certificates at both ends allow.
    pub(super) proof: Proof,
    /// Since when the certificates no longer hold.
    pub(super) stale: Option<Instant>,
    /// A certificate that opened it has expired.
    pub(super) expired: bool,
    /// It was asked for a sign of life and gave none in time: takes no new streams until it does.
    pub(super) doubted: bool,
    /// Bytes of the handshake that the kernel did not take yet.
    pub(super) outgoing: Backlog,
    /// The beginning of a record, or of a handshake message, whose rest has not arrived.
    pub(super) partial: Vec<u8>,
    pub(super) readable: bool,
    pub(super) closing: bool,
    /// Waits in the loop's queue of unfinished work to be read.
    pub(super) queued: bool,
    /// Streams that have something to send.
    pub(super) turns: Turns<Key<Flow>>,
    /// Bytes that the kernel takes ahead of what the network does, some milliseconds' worth.
    pub(super) ahead: usize,
    pub(super) measured: Instant,
    /// The kernel takes no more until the next event.
    pub(super) blocked: bool,
    /// In the list of those to be flushed at the end of the round.
    pub(super) dirty: bool,
    /// Not read for a moment, since its only application does not keep up.
    pub(super) paused: bool,
    /// Takes no new streams; closes when the last one has ended.
    pub(super) retiring: bool,
    /// The last word is queued, or on its way.
    pub(super) parting: bool,
    /// Bytes that the peer had acknowledged when that was last looked at, and when they last grew.
    acknowledged: u64,
    progress: Instant,
    /// When the handshake was complete.
    pub(super) opened: Instant,
    /// When the last stream ended, or the tunnel opened.
    pub(super) idle_since: Instant,
    /// When the peer was last heard of.
    pub(super) heard: Instant,
    pub(super) pinged: Option<Instant>,
    /// Why dialling failed at once.
    failed: Option<Failure>,
}

/// How far a tunnel has come.
pub(super) enum State {
    /// Waits for a socket in the pod's namespace.
    Stock,
    /// Waits for TCP.
    Connecting,
    /// Waits for the pod's certificate.
    Uncertified,
    /// TLS. Without it: it is with the threads that do its cryptography.
    Handshake(Option<Box<Handshake>>),
    /// Carries streams.
    Open(Box<Connection>),
    /// We have said that we are done, and wait for the peer to say so.
    Closing,
}

impl Tunnel {
    /// Whether bytes are on their way to a peer that still takes them.
    pub(super) fn owes(&mut self, now: Instant) -> bool {
        let Some(fd) = &self.fd else { return false };
        let Ok(state) = tcp_state::send_state(fd.as_fd()) else {
            return false;
        };
        if state.acknowledged > self.acknowledged {
            (self.acknowledged, self.progress) = (state.acknowledged, now);
        }
        let queued = matches!(&self.state, State::Open(connection) if connection.has_output());
        queued || state.outstanding
    }

    /// Whether the peer allows no stream at all.
    pub(super) fn takes_none(&self) -> bool {
        matches!(&self.state, State::Open(connection) if !connection.can_open() && !connection.is_going_away())
    }

    /// Whether it is worth waiting until the peer has what this tunnel sends.
    pub(super) fn is_sending(&mut self, now: Instant) -> bool {
        self.owes(now) && now.saturating_duration_since(self.progress) < STALLED
    }

    fn new(pod: &Rc<LocalPod>, peer: SocketAddr, role: Role, now: Instant) -> Self {
        Self {
            fd: None,
            pod: Rc::clone(pod),
            peer,
            role,
            group: None,
            state: State::Stock,
            identity: None,
            streams: FxHashMap::default(),
            held: 0,
            proof: Proof::default(),
            stale: None,
            expired: false,
            doubted: false,
            outgoing: Backlog::default(),
            partial: Vec::new(),
            readable: false,
            closing: false,
            queued: false,
            turns: Turns::new(),
            ahead: pace::UNLIMITED,
            measured: now,
            blocked: false,
            dirty: false,
            paused: false,
            retiring: false,
            parting: false,
            acknowledged: 0,
            progress: now,
            opened: now,
            idle_since: now,
            heard: now,
            pinged: None,
            failed: None,
        }
    }

    /// A tunnel to a peer, of a pool's group.
    pub(super) fn to_dial(pod: &Rc<LocalPod>, peer: SocketAddr, group: Key<Group>, now: Instant) -> Self {
        Self {
            group: Some(group),
            ..Self::new(pod, peer, Role::Client, now)
        }
    }
}

impl Loop {
    /// A peer's connection to the tunnel port.
    pub(super) fn accept_tunnel(&mut self, pod: Rc<LocalPod>, fd: OwnedFd, source: SocketAddr) {
        let mut tunnel = Tunnel::new(&pod, source, Role::Server, self.now);
        tunnel.fd = Some(fd);
        tunnel.state = State::Uncertified;
        let key = self.tunnels.insert(tunnel);
        self.timers
            .set(self.now + self.config.handshake_timeout, Due::Tunnel(key));
        self.watch_tunnel(key);
        self.certify(key);
    }

    /// Begins to open a tunnel that was just added to the pool.
    pub(super) fn open_tunnel(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get(key) else { return };
        self.timers
            .set(self.now + self.config.handshake_timeout, Due::Tunnel(key));
        let socket = tunnel
            .pod
            .take_socket(Waiter::Tunnel(key), &self.shared.socket_requests);
        if let Some(socket) = socket {
            self.dial_tunnel(key, socket);
        }
    }

    /// Dials. Gives the socket back if it is no longer wanted.
    pub(super) fn dial_tunnel(&mut self, key: Key<Tunnel>, fd: OwnedFd) -> Option<OwnedFd> {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return Some(fd);
        };
        if !matches!(tunnel.state, State::Stock) {
            return Some(fd);
        }
        tunnel.state = State::Connecting;
        let dialled = (self.config.calls.connect)(fd.as_fd(), tunnel.peer);
        tunnel.fd = Some(fd);
        match dialled {
            Ok(()) => self.watch_tunnel(key),
            Err(error) => {
                // Told later in this round: here the pool is in the middle of a walk over those who wait.
                tunnel.failed = Some(Failure::tunnel(tunnel.peer, &error));
                self.timers.set(self.now, Due::Tunnel(key));
            }
        }
        None
    }

    fn watch_tunnel(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get(key) else { return };
        let Some(fd) = &tunnel.fd else { return };
        // As long as a ping may take: what the peer does not acknowledge that long, it never will.
        let silence = self.config.ping_interval + self.config.ping_timeout;
        if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(fd, silence.as_millis() as u32) {
            tracing::debug!(%error, "a tunnel's socket takes no timeout");
        }
        if let Err(error) = self.poll.watch(fd, Token::new(Kind::Tunnel, key)) {
            tracing::error!(%error, "cannot watch a tunnel"); // its deadline ends it
        }
    }

    /// Begins the handshake if the pod's certificate is there.
    pub(super) fn certify(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        if !matches!(tunnel.state, State::Uncertified) {
            return;
        }
        let identity = &tunnel.pod.pod.identity;
        let Some(credentials) = self.credentials.get(identity) else {
            let _ = self.shared.asks.send(Ask::Certificate(identity.clone()));
            self.uncertified.push(key);
            return;
        };
        let expected = tunnel
            .group
            .and_then(|group| self.pool.group(group))
            .map(Group::identities);
        tunnel.proof.own(credentials);
        match (tunnel.role, expected) {
            (Role::Server, _) => match Handshake::server(credentials.server_config()) {
                Ok(handshake) => {
                    tunnel.state = State::Handshake(Some(Box::new(handshake)));
                    self.shake(key);
                }
                Err(error) => {
                    let failure = Failure::handshake(tunnel.peer, &error);
                    self.lose_tunnel(key, &failure);
                }
            },
            (Role::Client, Some(expected)) => {
                tunnel.state = State::Handshake(None);
                let (credentials, name) = (Arc::clone(credentials), ServerName::from(tunnel.peer.ip()));
                let begin = move || {
                    let config = credentials.client_config(expected).map_err(|error| match error {
                        IdentityError::Tls(error) => HandshakeError::Tls(error),
                        other => HandshakeError::Tls(rustls::Error::General(other.to_string())),
                    })?;
                    Handshake::client(config, name)
                };
                self.handshakes.send(Step::first(key, Box::new(begin)), true);
            }
            (Role::Client, None) => {
                // Its group was given up meanwhile.
                self.tunnels.remove(key);
            }
        }
    }

    /// Something happened on a tunnel's socket.
    pub(super) fn tunnel_event(&mut self, key: Key<Tunnel>, event: &Event) {
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

    fn tunnel_connected(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let Some(fd) = &tunnel.fd else { return };
        match socket::connected(fd) {
            Ok(()) => {
                tunnel.state = State::Uncertified;
                self.certify(key);
            }
            Err(error) => {
                let failure = Failure::tunnel(tunnel.peer, &error);
                self.lose_tunnel(key, &failure);
            }
        }
    }

    /// The time that a tunnel had to open, or to close, is over.
    pub(super) fn tunnel_deadline(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        if let Some(failure) = tunnel.failed.take() {
            return self.lose_tunnel(key, &failure);
        }
        let why = match &tunnel.state {
            State::Open(_) | State::Closing if tunnel.parting => return self.look_at_parting(key),
            State::Open(_) | State::Closing => return,
            State::Stock => "no socket from the monitor",
            State::Connecting => "no answer to TCP",
            State::Uncertified => "no certificate for this pod yet",
            State::Handshake(_) => "no answer to TLS",
        };
        let failure = Failure::Tunnel {
            to: tunnel.peer,
            why: why.into(),
            final_: false,
        };
        self.lose_tunnel(key, &failure);
    }

    /// Takes no new streams on this tunnel; closes it when the last one has ended.
    pub(super) fn retire_tunnel(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        if !std::mem::replace(&mut tunnel.retiring, true) && tunnel.streams.is_empty() {
            tunnel.idle_since = self.now;
        }
        if let State::Open(connection) = &mut tunnel.state {
            // Also where the peer was first to say so: without our own word the tunnel never counts as drained.
            connection.go_away();
            let group = tunnel.group;
            self.touch(key);
            if let Some(group) = group {
                self.leave_pool(group, key);
            }
            self.close_if_done(key);
        }
    }

    /// Closes a retiring tunnel once nothing is left on it.
    pub(super) fn close_if_done(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let State::Open(connection) = &mut tunnel.state else {
            return;
        };
        let done =
            tunnel.retiring && tunnel.streams.is_empty() && (tunnel.role == Role::Client || connection.is_drained());
        if done || tunnel.parting {
            self.part(key);
        }
    }

    /// Says the last word, and closes our side as soon as the kernel has taken it and all before it.
    pub(super) fn part(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let State::Open(connection) = &mut tunnel.state else {
            return;
        };
        if !std::mem::replace(&mut tunnel.parting, true) {
            connection.close();
            tunnel.progress = self.now;
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
    pub(super) fn discard(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let Some(fd) = &tunnel.fd else { return };
        let mut buffer = self.buffer.take();
        let ended = loop {
            match rustix::io::read(fd, &mut buffer[..]) {
                Ok(0) => break true,
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break false,
                Err(_) => break true,
            }
        };
        self.buffer.give_back(buffer);
        if ended {
            // Nothing is unread and nothing more comes, so the kernel goes on sending what it has.
            self.tunnels.remove(key);
        }
    }

    /// Gives a tunnel that has said its last word up if the peer has everything but does not close, or takes nothing.
    fn look_at_parting(&mut self, key: Key<Tunnel>) {
        let now = self.now;
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let limit = if tunnel.owes(now) { STALLED } else { LINGER };
        if now.saturating_duration_since(tunnel.progress) < limit {
            return self.timers.set(now + LINGER, Due::Tunnel(key));
        }
        if limit == STALLED {
            tracing::warn!(peer = %tunnel.peer, role = ?tunnel.role, "a peer no longer takes what a closing tunnel sends");
        }
        self.tunnels.remove(key);
    }

    /// A tunnel failed, whatever it was doing.
    pub(super) fn lose_tunnel(&mut self, key: Key<Tunnel>, failure: &Failure) {
        let Some(mut tunnel) = self.tunnels.remove(key) else {
            return;
        };
        let was_open = matches!(tunnel.state, State::Open(_));
        tracing::debug!(peer = %tunnel.peer, role = ?tunnel.role, streams = tunnel.streams.len(), %failure, "lost a tunnel");
        if tunnel.role == Role::Server && !was_open {
            self.report_refused_tunnel(&tunnel, failure);
        }
        // What the peer may have missed: the stream's end is queued behind it.
        let unsent = matches!(&tunnel.state, State::Open(connection) if connection.has_output());
        for (_, flow) in tunnel.streams.drain() {
            let open = self.flows.get(flow).is_some_and(|flow| flow.phase == Phase::Open);
            if open && self.outlives_tunnel(flow, unsent.then_some(failure)) {
                continue;
            }
            if open || tunnel.role == Role::Server {
                self.end(flow, Err(Failure::TunnelLost(failure.to_string().into())));
            } else {
                self.attempt_failed(flow, failure.clone());
            }
        }
        if let Some(group) = tunnel.group {
            if was_open {
                self.leave_pool(group, key);
            } else {
                self.dial_failed(group, key, failure);
            }
        }
    }
}
