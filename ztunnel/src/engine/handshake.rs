//! TLS handshakes of tunnels.

use culvert_hbone::{Connection, Handshake, Progress, Role};
use rustix::io::Errno;

use super::{
    Loop,
    arena::Key,
    failure::Failure,
    tunnel::{State, Tunnel},
};

/// Bytes read at a time in a handshake.
const HANDSHAKE_READ: usize = 16 << 10;

/// What a step of a handshake came to.
enum Step {
    Wait,
    Done,
    Lost(Failure),
}

impl Loop {
    /// Goes on with a handshake as far as the peer's bytes allow.
    pub(super) fn shake(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let State::Handshake(handshake) = &mut tunnel.state else {
            return;
        };
        let Some(fd) = &tunnel.fd else { return };
        let mut buffer = self.buffer.take();
        let mut outgoing = Vec::new();
        let step = loop {
            match handshake.advance(&mut tunnel.partial, &mut outgoing) {
                Ok(Progress::Done) => break Step::Done,
                Ok(Progress::Waiting) if !tunnel.readable => break Step::Wait,
                Ok(Progress::Waiting) => {}
                Err(error) => break Step::Lost(Failure::handshake(tunnel.peer, &error)),
            }
            match rustix::io::read(fd, &mut buffer[..HANDSHAKE_READ]) {
                Ok(0) => {
                    let why = "hung up during the handshake".into();
                    break Step::Lost(Failure::Tunnel {
                        to: tunnel.peer,
                        why,
                        final_: false,
                    });
                }
                Ok(count) => tunnel.partial.extend_from_slice(&buffer[..count]),
                Err(Errno::AGAIN) => {
                    tunnel.readable = false;
                    break Step::Wait;
                }
                Err(Errno::INTR) => {}
                Err(error) => break Step::Lost(Failure::tunnel(tunnel.peer, &error.into())),
            }
        };
        self.buffer.give_back(buffer);
        tunnel.outgoing.push(&outgoing);
        match step {
            Step::Wait => self.flush_tunnel(key),
            Step::Done => self.established(key),
            Step::Lost(failure) => {
                self.flush_tunnel(key); // an alert
                self.lose_tunnel(key, &failure);
            }
        }
    }

    /// The handshake is complete.
    fn established(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let State::Handshake(handshake) = std::mem::replace(&mut tunnel.state, State::Closing) else {
            return;
        };
        let failure = match Handshake::finish(*handshake) {
            Ok(done) => match done.peer_certificates.first().map(culvert_identity::peer_identity) {
                Some(Ok(identity)) => {
                    tunnel.identity = Some(identity);
                    let connection = Connection::new(tunnel.role, done.keys, &self.config.hbone);
                    tunnel.state = State::Open(Box::new(connection));
                    tunnel.idle_since = self.now;
                    tunnel.heard = self.now;
                    if tunnel.role == Role::Server {
                        // Mostly known by the time that the first stream is over.
                        let (pod, peer) = (std::rc::Rc::clone(&tunnel.pod), tunnel.peer.ip());
                        self.ask_for_source(&pod, peer, true);
                    }
                    return self.opened(key);
                }
                Some(Err(error)) => Failure::Tunnel {
                    to: tunnel.peer,
                    why: error.to_string().into(),
                    final_: true,
                },
                None => Failure::Tunnel {
                    to: tunnel.peer,
                    why: "no certificate".into(),
                    final_: true,
                },
            },
            Err(error) => Failure::handshake(tunnel.peer, &error),
        };
        self.lose_tunnel(key, &failure);
    }

    fn opened(&mut self, key: Key<Tunnel>) {
        self.touch(key);
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        tracing::debug!(peer = %tunnel.peer, role = ?tunnel.role, identity = ?tunnel.identity, "tunnel open");
        let retiring = std::mem::take(&mut tunnel.retiring) || self.draining;
        if let Some(group) = tunnel.group {
            self.join_pool(group, key);
        }
        if retiring {
            // After those who waited for it have got their streams.
            self.retire_tunnel(key);
        }
        // The peer's first frames may have come together with its last handshake message.
        self.read_tunnel_from(key, true);
    }
}
