//! Tunnels that peers open to us.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use culvert_hbone::{Handshake, Role};
use culvert_identity::SpiffeId;
use tokio::time::timeout;

use super::{
    driver::Driver,
    handshake::{Opened, Shaking},
    settings::Settings,
    socket::{CredentialSource, Socket},
    tunnel::Requests,
};
use crate::failure::Failure;

/// Accepts tunnels for one identity.
#[derive(Clone)]
pub struct Server {
    identity: SpiffeId,
    credentials: Arc<dyn CredentialSource>,
    settings: Arc<Settings>,
    number: Arc<AtomicU64>,
}

impl Server {
    /// Shows the certificate that `credentials` has for `identity` at the time of each handshake.
    pub fn new(identity: SpiffeId, credentials: Arc<dyn CredentialSource>, settings: Settings) -> Self {
        Self {
            identity,
            credentials,
            settings: Arc::new(settings),
            number: Arc::new(AtomicU64::new(0)),
        }
    }

    /// Makes a tunnel of a socket that was accepted from `peer`. Spawn the [`Driver`], then take the requests.
    ///
    /// Authorities are as the peer gave them: whether they are ours to serve, and whether this peer may, is for the caller to decide, for
    /// each [`Request`](super::Request).
    ///
    /// # Errors
    /// TLS failed, or took too long; the failure names the peer. A client whose certificate is not of the trust domain is refused here.
    pub async fn accept<S: Socket>(&self, socket: S, peer: SocketAddr) -> Result<(Requests, Driver<S>), Failure> {
        let fail = |why: String, final_| Failure::Tunnel {
            to: peer,
            why: why.into(),
            final_,
        };
        let Some(own) = self.credentials.credentials(&self.identity) else {
            return Err(fail(format!("no certificate for {} yet", self.identity), false));
        };
        let handshake = Handshake::server(own.server_config()).map_err(|error| Failure::handshake(peer, &error))?;
        let shaking = Shaking {
            socket,
            handshake,
            role: Role::Server,
            address: peer,
            own,
            credentials: Arc::clone(&self.credentials),
            settings: Arc::clone(&self.settings),
            number: self.number.fetch_add(1, Ordering::Relaxed),
            watch: Box::new(|_| {}),
        };
        let within = self.settings.handshake_timeout;
        let opened = timeout(within, shaking.open()).await;
        let Opened { shared, peer, driver } =
            opened.unwrap_or_else(|_| Err(fail(format!("no answer to TLS within {within:?}"), false)))?;
        Ok((Requests { shared, peer }, driver))
    }
}
