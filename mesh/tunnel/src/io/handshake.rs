//! TLS at the beginning of a tunnel, and what becomes of it.

use std::{io, net::SocketAddr, sync::Arc};

use culvert_hbone::{Connection, Handshake, HandshakeError, Progress, Role};
use culvert_identity::{Credentials, peer_identity};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    clock,
    driver::{Change, Driver, Parts, Vouched},
    peer::Peer,
    settings::Settings,
    socket::{CredentialSource, Socket},
    state::{Shared, State},
};
use crate::{failure::Failure, life::Life, proof::Proof};

/// Bytes to read at once: a whole flight of most peers.
const READ: usize = 8 << 10;

/// A tunnel that is to be.
pub(super) struct Shaking<S> {
    pub(super) socket: S,
    pub(super) handshake: Handshake,
    pub(super) role: Role,
    pub(super) address: SocketAddr,
    /// Those that the handshake shows.
    pub(super) own: Arc<Credentials>,
    pub(super) credentials: Arc<dyn CredentialSource>,
    pub(super) settings: Arc<Settings>,
    /// Differs from tunnel to tunnel.
    pub(super) number: u64,
    pub(super) watch: Box<dyn Fn(Change) + Send>,
}

/// What a handshake ends in.
pub(super) struct Opened<S> {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: Arc<Peer>,
    pub(super) driver: Driver<S>,
}

impl<S: Socket> Shaking<S> {
    /// Shakes hands.
    pub(super) async fn open(mut self) -> Result<Opened<S>, Failure> {
        let mut proof = Proof::default();
        proof.own(&self.own);
        let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
        loop {
            let progress = self.handshake.advance(&mut incoming, &mut outgoing);
            // After an error, too: an alert says why.
            let sent = self.send(&mut outgoing).await;
            match progress {
                Err(error) => return Err(Failure::handshake(self.address, &error)),
                Ok(progress) => {
                    sent.map_err(|error| Failure::tunnel(self.address, &error))?;
                    if progress == Progress::Done {
                        break;
                    }
                }
            }
            incoming.reserve(READ);
            match self.socket.read_buf(&mut incoming).await {
                Ok(0) => return Err(Failure::handshake(self.address, &HandshakeError::Closed)),
                Ok(_) => {}
                Err(error) => return Err(Failure::tunnel(self.address, &error)),
            }
        }
        let established = self
            .handshake
            .finish()
            .map_err(|error| Failure::handshake(self.address, &error))?;
        let identity = established.peer_certificates.first().map(peer_identity);
        let identity = match identity {
            Some(Ok(identity)) => identity,
            // Our verifiers take no such certificate; a configuration without them might.
            Some(Err(error)) => return Err(nobody(self.address, &error.to_string())),
            None => return Err(nobody(self.address, "the peer shows no certificate")),
        };
        proof.peer(established.peer_certificates);
        let peer = Arc::new(Peer {
            address: self.address,
            identity,
        });
        let connection = Connection::new(self.role, established.keys, &self.settings.hbone);
        let now = clock::now();
        let mut life = Life::new(self.role, self.number, now);
        life.open(now);
        let shared = Shared::new(State::new(connection, life));
        let driver = Driver::new(Parts {
            socket: self.socket,
            shared: Arc::clone(&shared),
            role: self.role,
            peer: Arc::clone(&peer),
            early: incoming,
            settings: self.settings,
            vouched: Vouched {
                own: self.own.identity().clone(),
                proof,
                credentials: self.credentials,
            },
            watch: self.watch,
        });
        Ok(Opened { shared, peer, driver })
    }

    async fn send(&mut self, outgoing: &mut Vec<u8>) -> io::Result<()> {
        if !outgoing.is_empty() {
            self.socket.write_all(outgoing).await?;
            self.socket.flush().await?;
            outgoing.clear();
        }
        Ok(())
    }
}

/// A peer that does not say who it is.
fn nobody(to: SocketAddr, why: &str) -> Failure {
    Failure::Tunnel {
        to,
        why: why.into(),
        final_: true,
    }
}
