//! The certificates in which every chain must end.

use std::sync::Arc;

use rustls::RootCertStore;

use crate::{IdentityError, certificate};

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

    /// The roots, for a TLS client that checks names in its own way.
    pub fn roots(&self) -> &Arc<RootCertStore> {
        &self.roots
    }
}
