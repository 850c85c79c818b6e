//! The certificates in which every chain must end, and those that are revoked.

use std::sync::Arc;

use rustls::RootCertStore;

use crate::{IdentityError, Revocations, certificate};

/// The certificates in a PEM text, without what else it holds, if each of them can be a trust anchor.
///
/// # Errors
/// When the text holds no certificate, or one that cannot be a trust anchor.
pub fn authorities(pem: &str) -> Result<String, IdentityError> {
    let mut roots = RootCertStore::empty();
    for root in certificate::from_pem(pem.as_bytes(), "list of authorities")? {
        roots.add(root)?;
    }
    let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    let blocks = pem.split(begin).skip(1).filter_map(|rest| rest.split_once(end));
    Ok(blocks.map(|(body, _)| format!("{begin}{body}{end}\n")).collect())
}

/// The roots that a trust domain's certificates may end in. Clones are cheap.
#[derive(Clone, Debug)]
pub struct TrustBundle {
    roots: Arc<RootCertStore>,
    revocations: Arc<Revocations>,
}

impl TrustBundle {
    /// Reads one or more root certificates from PEM, and certificate revocation lists where there are some.
    ///
    /// # Errors
    /// When the text holds no certificate, one that cannot be a trust anchor, or a list that does not parse.
    pub fn from_pem(pem: &[u8]) -> Result<Self, IdentityError> {
        let mut roots = RootCertStore::empty();
        for root in certificate::from_pem(pem, "trust bundle")? {
            roots.add(root)?;
        }
        Ok(Self {
            roots: Arc::new(roots),
            revocations: Arc::new(Revocations::from_pem(pem)?),
        })
    }

    /// The roots, for a TLS client that checks names in its own way.
    pub fn roots(&self) -> &Arc<RootCertStore> {
        &self.roots
    }

    /// What is revoked.
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }
}
