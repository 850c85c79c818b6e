//! TLS handshakes of tunnels: reading and writing is done here, cryptography by the threads of `handshake_pool`.

use culvert_hbone::{Connection, Handshake, Progress, Role};
use culvert_tunnel::failure::Failure;
use rustix::io::Errno;

use super::{
    handshake_pool::Step,
    keys::TunnelKey,
    loop_state::{Loop, Todo},
    tunnel::State,
};

/// Bytes read at a time in a handshake.
const HANDSHAKE_READ: usize = 16 << 10;

/// Bytes read before they are looked at: more than a chain of the largest size that is taken.
const MOST: usize = 128 << 10;

/// The same of a peer that dialled and has proved nothing yet.
const MOST_OF_CLIENT: usize = 32 << 10;

impl Loop {
    /// Reads what the peer has sent, and sends the handshake on its way with it.
    pub(super) fn shake(&mut self, key: TunnelKey) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let State::Handshake(handshake @ Some(_)) = &mut tunnel.state else {
            return; // goes on here when it is back
        };
        let Some(fd) = &tunnel.fd else { return };
        let before = tunnel.partial.len();
        let mut buffer = self.buffer.take();
        let mut failure = None;
        let most = match tunnel.role {
            Role::Client => MOST,
            Role::Server => MOST_OF_CLIENT,
        };
        while tunnel.readable && tunnel.partial.len() < most {
            match rustix::io::read(fd, &mut buffer[..HANDSHAKE_READ]) {
                // What came before the end may complete the handshake.
                Ok(0) if tunnel.partial.len() > before => break,
                Ok(0) => {
                    failure = Some(Failure::Tunnel {
                        to: tunnel.peer,
                        why: "hung up during the handshake".into(),
                        final_: false,
                    });
                    break;
                }
                Ok(count) => tunnel.partial.extend_from_slice(&buffer[..count]),
                Err(Errno::AGAIN) => tunnel.readable = false,
                Err(Errno::INTR) => {}
                Err(error) => {
                    failure = Some(Failure::tunnel(tunnel.peer, &error.into()));
                    break;
                }
            }
        }
        self.buffer.give_back(buffer);
        if tunnel.partial.len() > before {
            let step = Step::next(key, handshake.take(), std::mem::take(&mut tunnel.partial));
            self.handshakes.send(step, tunnel.role == Role::Client);
        } else if let Some(failure) = failure {
            self.lose_tunnel(key, &failure);
        }
    }

    /// A handshake came back from its step.
    pub(super) fn shaken(&mut self, step: Step) {
        let key = step.tunnel;
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let State::Handshake(handshake @ None) = &mut tunnel.state else {
            return;
        };
        *handshake = step.handshake;
        tunnel.partial = step.incoming;
        tunnel.outgoing.push(&step.outgoing);
        match step.result {
            Ok(Progress::Waiting) => {
                self.flush_tunnel(key);
                self.shake(key);
            }
            Ok(Progress::Done) => self.established(key),
            Err(error) => {
                let failure = Failure::handshake(tunnel.peer, &error);
                self.flush_tunnel(key); // an alert
                self.lose_tunnel(key, &failure);
            }
        }
    }

    /// The handshake is complete.
    fn established(&mut self, key: TunnelKey) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let State::Handshake(Some(handshake)) = std::mem::replace(&mut tunnel.state, State::Closing) else {
            return;
        };
        let failure = match Handshake::finish(*handshake) {
            Ok(done) => match done.peer_certificates.first().map(culvert_identity::peer_identity) {
                Some(Ok(identity)) => {
                    tunnel.identity = Some(identity);
                    tunnel.key_exchange = Some(done.key_exchange);
                    tunnel.proof.peer(done.peer_certificates);
                    let connection = Connection::new(tunnel.role, done.keys, &self.config.hbone);
                    tunnel.state = State::Open(Box::new(connection));
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

    fn opened(&mut self, key: TunnelKey) {
        self.touch(key);
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let key_exchange = tunnel.key_exchange.unwrap_or_default();
        tracing::debug!(peer = %tunnel.peer, role = ?tunnel.role, identity = ?tunnel.identity, key_exchange, "tunnel open");
        let role = match tunnel.role {
            Role::Client => "client",
            Role::Server => "server",
        };
        let opened = &self.shared.telemetry.proxy().tunnels_opened;
        opened
            .get_or_create(&[("role", role), ("key_exchange", key_exchange)])
            .inc();
        let retiring = tunnel.life.open(self.now) || self.draining;
        if let Some(group) = tunnel.group {
            self.join_pool(group, key);
        }
        if retiring {
            // After those who waited for it have got their streams.
            self.retire_tunnel(key);
        }
        // The peer's first frames may have come together with its last handshake message.
        self.todo.push_back(Todo::Read(key));
    }
}
