//! The certificates in which every chain must end.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, UnixTime},
    server::danger::ClientCertVerifier as _,
};

use crate::{IdentityError, SpiffeId, certificate, verify::ClientVerifier};

/// The roots that a trust domain's certificates may end in. Clones are cheap.
#[derive(Clone, Debug)]
pub struct TrustBundle {
    roots: Arc<RootCertStore>,
}

impl TrustBundle {
    /// Reads one or more root certificates from PEM.
    ///
    /// # Errors
    /// When the text holds no certificate, or one that cannot be a trust anchor.
    pub fn from_pem(pem: &[u8]) -> Result<Self, IdentityError> {
        let mut roots = RootCertStore::empty();
        for root in certificate::from_pem(pem, "trust bundle")? {
            roots.add(root)?;
        }
        Ok(Self { roots: Arc::new(roots) })
    }

    /// Checks a chain, leaf first, as the far end of a tunnel would at the time `at`, and says whose it is.
    ///
    /// # Errors
    /// When the chain does not end in these roots or is not valid then, or its identity is not of the trust domain.
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        trust_domain: &str,
        at: SystemTime,
    ) -> Result<SpiffeId, IdentityError> {
        let (leaf, others) = chain.split_first().ok_or(IdentityError::Pem {
            what: "certificate chain",
        })?;
        let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap_or_default());
        ClientVerifier::new(self, trust_domain)?.verify_client_cert(leaf, others, at)?;
        certificate::peer_identity(leaf)
    }

    /// The roots, for a TLS client that checks names in its own way.
    pub fn roots(&self) -> &Arc<RootCertStore> {
        &self.roots
    }
}
