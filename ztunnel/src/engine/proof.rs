//! What the certificates of a tunnel prove.

use std::{sync::Arc, time::SystemTime};

use culvert_identity::Credentials;
use rustls::{RootCertStore, pki_types::CertificateDer};

/// What the certificates of a tunnel prove.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// The peer's, its own first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// When the first of both sides' certificates expires.
    pub(super) expires: Option<SystemTime>,
    /// The roots against which the chain was verified last.
    pub(super) roots: Option<Arc<RootCertStore>>,
}

impl Proof {
    /// Our own part, as the handshake begins.
    pub(super) fn own(&mut self, credentials: &Credentials) {
        self.expires = Some(credentials.not_after());
        self.roots = Some(Arc::clone(credentials.bundle().roots()));
    }

    /// The peer's, verified in the handshake.
    pub(super) fn peer(&mut self, chain: Vec<CertificateDer<'static>>) {
        // One that does not parse has not been accepted.
        let expires = chain.first().and_then(|leaf| culvert_identity::peer_expiry(leaf).ok());
        self.expires = self.expires.into_iter().chain(expires).min();
        self.chain = chain;
    }
}
