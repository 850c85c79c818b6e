//! TLS at the beginning of a tunnel, and what becomes of it.

use std::{future::poll_fn, io, net::SocketAddr, pin::Pin, sync::Arc, task::Poll};

use culvert_hbone::{Connection, Handshake, HandshakeError, Progress, Role};
use culvert_identity::{Credentials, peer_identity};
use tokio::io::{AsyncWriteExt as _, ReadBuf};

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
            match self.handshake.advance(&mut incoming, &mut outgoing) {
                Ok(Progress::Waiting) => self
                    .exchange(&mut incoming, &mut outgoing)
                    .await
                    .map_err(|error| self.failed(&error))?,
                Ok(Progress::Done) => {
                    self.send(&outgoing).await.map_err(|error| self.failed(&error))?;
                    break;
                }
                Err(error) => {
                    // An alert says why, if it still can.
                    let _ = self.send(&outgoing).await;
                    return Err(Failure::handshake(self.address, &error));
                }
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

    async fn send(&mut self, outgoing: &[u8]) -> io::Result<()> {
        self.socket.write_all(outgoing).await?;
        self.socket.flush().await
    }

    /// Waits for more from the peer, and writes meanwhile: a peer that writes, too, may not read before we do.
    async fn exchange(&mut self, incoming: &mut Vec<u8>, outgoing: &mut Vec<u8>) -> io::Result<()> {
        let mut unflushed = !outgoing.is_empty();
        poll_fn(|context| -> Poll<io::Result<()>> {
            while !outgoing.is_empty() {
                match Pin::new(&mut self.socket).poll_write(context, outgoing)? {
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(n) => drop(outgoing.drain(..n)),
                    Poll::Pending => break,
                }
            }
            if outgoing.is_empty() && unflushed && Pin::new(&mut self.socket).poll_flush(context)?.is_ready() {
                unflushed = false;
            }
            let have = incoming.len();
            incoming.resize(have + READ, 0);
            let mut space = ReadBuf::new(&mut incoming[have..]);
            let polled = Pin::new(&mut self.socket).poll_read(context, &mut space);
            let n = space.filled().len();
            incoming.truncate(have + n);
            match polled? {
                Poll::Ready(()) if n == 0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(()) => Poll::Ready(Ok(())),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    fn failed(&self, error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Failure::handshake(self.address, &HandshakeError::Closed);
        }
        Failure::tunnel(self.address, error)
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
