//! How tunnels come to be, until the handshake.

use std::{
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use culvert_control::Ask;
use culvert_hbone::{Handshake, HandshakeError, Role};
use culvert_identity::IdentityError;
use culvert_tunnel::failure::Failure;
use rustls::pki_types::ServerName;

use super::{
    handshake_pool::Step,
    keys::TunnelKey,
    loop_state::Loop,
    poll::{Kind, Token},
    socket,
    sockets::{LocalPod, Waiter},
    timer::Due,
    tunnel::{State, Tunnel},
};

/// A peer that has not answered for so long in a handshake is the first to go where there are too many.
const LATE: Duration = Duration::from_secs(1);

impl Loop {
    /// A peer's connection to the tunnel port.
    pub(super) fn accept_tunnel(&mut self, pod: Rc<LocalPod>, fd: OwnedFd, source: SocketAddr) {
        self.tunnels_made += 1;
        let mut tunnel = Tunnel::new(&pod, source, Role::Server, self.tunnels_made, self.now);
        tunnel.fd = Some(fd);
        tunnel.state = State::Uncertified;
        let key = self.tunnels.insert(tunnel);
        self.timers
            .set(self.now + self.config.handshake_timeout, Due::Tunnel(key));
        self.watch_tunnel(key);
        self.certify(key);
        self.unproven.push_back(key);
        self.make_room_for_handshakes();
    }

    /// Where too many peers have proved nothing yet, those whose next message has been waited for longest are given up: who means
    /// it sends it within a round trip.
    fn make_room_for_handshakes(&mut self) {
        let tunnels = &self.tunnels;
        let is_unproven = |key: &TunnelKey| {
            let state = tunnels.get(*key).map(|tunnel| &tunnel.state);
            matches!(state, Some(State::Uncertified | State::Handshake(_)))
        };
        while self.unproven.front().is_some_and(|key| !is_unproven(key)) {
            self.unproven.pop_front();
        }
        if self.unproven.len() <= self.config.admission.unproven {
            return;
        }
        self.unproven.retain(is_unproven);
        if self.unproven.len() <= self.config.admission.unproven {
            return;
        }
        let late = |key: &TunnelKey| {
            let tunnel = tunnels.get(*key)?;
            let waits = matches!(tunnel.state, State::Handshake(Some(_)));
            let since = self.now.saturating_duration_since(tunnel.life.idle_since());
            (waits && since >= LATE).then_some(*key)
        };
        let Some(key) = self.unproven.iter().find_map(late) else {
            return;
        };
        let Some(peer) = self.tunnels.get(key).map(|tunnel| tunnel.peer) else {
            return;
        };
        let failure = Failure::Tunnel {
            to: peer,
            why: "no answer to TLS, and many others wait".into(),
            final_: false,
        };
        self.lose_tunnel(key, &failure);
    }

    /// Begins to open a tunnel that was just added to the pool.
    pub(super) fn open_tunnel(&mut self, key: TunnelKey) {
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
    pub(super) fn dial_tunnel(&mut self, key: TunnelKey, fd: OwnedFd) -> Option<OwnedFd> {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return Some(fd);
        };
        if !matches!(tunnel.state, State::Stock) {
            return Some(fd);
        }
        tunnel.state = State::Connecting;
        let dialled = (self.config.calls.connect)(fd.as_fd(), tunnel.peer);
        if let Err(error) = culvert_net::sockopt::keep_alive(fd.as_fd(), self.config.keepalive) {
            tracing::debug!(%error, "a tunnel's socket has no keepalive"); // it has pings
        }
        tunnel.fd = Some(fd);
        match dialled {
            Ok(()) => self.watch_tunnel(key),
            Err(error) => {
                let failure = Failure::tunnel(tunnel.peer, &error);
                self.lose_tunnel(key, &failure);
            }
        }
        None
    }

    fn watch_tunnel(&mut self, key: TunnelKey) {
        let Some(tunnel) = self.tunnels.get(key) else { return };
        let Some(fd) = &tunnel.fd else { return };
        // As long as a ping may take: what the peer does not acknowledge that long, it never will.
        let silence = self.config.limits.ping_interval + self.config.limits.ping_timeout;
        // The kernel takes an int, and refuses what is below 0.
        let silence = silence.as_millis().min(i32::MAX as u128) as u32;
        if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(fd, silence) {
            tracing::debug!(%error, "a tunnel's socket takes no timeout");
        }
        if let Err(error) = self.poll.watch(fd, Token::new(Kind::Tunnel, key)) {
            tracing::error!(%error, "cannot watch a tunnel"); // its deadline ends it
        }
    }

    /// Begins the handshake if the pod's certificate is there.
    pub(super) fn certify(&mut self, key: TunnelKey) {
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
        let group = tunnel.group.and_then(|group| self.pool.key(group));
        let expected = group.map(|group| Arc::clone(&group.identities));
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
                self.take_tunnel(key);
            }
        }
    }

    pub(super) fn tunnel_connected(&mut self, key: TunnelKey) {
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
    pub(super) fn tunnel_deadline(&mut self, key: TunnelKey) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let why = match &tunnel.state {
            State::Open(_) | State::Closing if tunnel.life.is_parting() => return self.look_at_parting(key),
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
}
