//! The TLS handshake over bytes that the caller moves.
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConfig};

use crate::{HandshakeError, TrafficKeys};

/// How far a handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed from the peer.
    Waiting,
    /// Finished: call [`Handshake::finish`] (after sending what is in `outgoing`, or before).
    Done,
}

/// A TLS handshake in progress.
pub struct Handshake {}

/// What a handshake ends in.
pub struct Established {
    /// To build a [`Connection`](crate::Connection) with.
    pub keys: TrafficKeys,
    /// The peer's certificates, its own first; checked. Empty only where the server's configuration asks for none.
    pub peer_certificates: Vec<CertificateDer<'static>>,
}

#[expect(unused_variables, reason = "signatures first")]
impl Handshake {
    /// Begins as the side that dialled. The first call of [`advance`](Self::advance) needs no input. `config` must allow
    /// `enable_secret_extraction` and offer `h2` by ALPN.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, HandshakeError> {
        todo!()
    }

    /// Begins as the side that accepted. `config` must allow `enable_secret_extraction` and offer `h2` by ALPN.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, HandshakeError> {
        todo!()
    }

    /// Goes as far as `incoming` allows. Bytes that were used are taken out of its front; append what is read next to its end. Bytes to
    /// send are appended to `outgoing`, also when it fails (an alert).
    ///
    /// What is left in `incoming` when this says [`Progress::Done`] belongs to [`Connection::receive`](crate::Connection::receive).
    ///
    /// # Errors
    /// The handshake failed: send `outgoing`, then close.
    pub fn advance(&mut self, incoming: &mut Vec<u8>, outgoing: &mut Vec<u8>) -> Result<Progress, HandshakeError> {
        todo!()
    }

    /// Takes the keys over.
    ///
    /// # Errors
    /// Before [`Progress::Done`], when ALPN did not agree on `h2`, or when the suite is not TLS 1.3's.
    pub fn finish(self) -> Result<Established, HandshakeError> {
        todo!()
    }
}
