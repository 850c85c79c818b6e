//! Certificate revocation lists (RFC 5280, section 5): which certificates are no longer good although a root vouches for them.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    CertificateError, Error, OtherError, RootCertStore,
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime, pem::PemObject as _},
};
use std::sync::Arc;
use webpki::{
    CertRevocationList, EndEntityCert, KeyUsage, OwnedCertRevocationList, RevocationOptionsBuilder, UnknownStatusPolicy,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use crate::IdentityError;

/// Some lists. A certificate that none of them speaks of is as good as without them: a list speaks for its issuer alone.
pub struct Revocations {
    der: Vec<CertificateRevocationListDer<'static>>,
    lists: Vec<CertRevocationList<'static>>,
    revoked: usize,
    next_update: Option<SystemTime>,
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lists, revoked, .. } = self;
        write!(f, "Revocations {{ lists: {}, revoked: {revoked} }}", lists.len())
    }
}

impl Revocations {
    /// Reads the lists of a PEM text (`X509 CRL`), which may hold other things as well, and none at all.
    ///
    /// # Errors
    /// When a list does not parse: nothing of it is left out.
    pub fn from_pem(pem: &[u8]) -> Result<Self, IdentityError> {
        let der = CertificateRevocationListDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let der = der.map_err(|error| IdentityError::Revocation(error.to_string()))?;
        let (mut lists, mut revoked, mut next_update) = (Vec::new(), 0, None::<SystemTime>);
        for list in &der {
            let owned = OwnedCertRevocationList::from_der(list);
            let owned = owned.map_err(|error| IdentityError::Revocation(error.to_string()))?;
            lists.push(owned.into());
            let (_, facts) = CertificateRevocationList::from_der(list)
                .map_err(|error| IdentityError::Revocation(error.to_string()))?;
            revoked += facts.iter_revoked_certificates().count();
            let next = facts.next_update().and_then(|at| u64::try_from(at.timestamp()).ok());
            let next = next.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
            next_update = next_update.into_iter().chain(next).min();
        }
        Ok(Self {
            der,
            lists,
            revoked,
            next_update,
        })
    }

    /// How many certificates they revoke.
    pub fn revoked(&self) -> usize {
        self.revoked
    }

    /// When the first of them should have been replaced by a newer one. It holds beyond that.
    pub fn next_update(&self) -> Option<SystemTime> {
        self.next_update
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// As rustls takes them.
    pub(crate) fn der(&self) -> impl Iterator<Item = CertificateRevocationListDer<'static>> {
        self.der.iter().cloned()
    }

    /// Refuses a server's chain that is good otherwise and of which some part is revoked. rustls checks that of clients itself;
    /// for servers it does so only together with their names.
    pub(crate) fn check_server(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        roots: &RootCertStore,
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        let lists: Vec<&CertRevocationList<'_>> = self.lists.iter().collect();
        // There is nothing to check without a list.
        let Ok(options) = RevocationOptionsBuilder::new(&lists) else {
            return Ok(());
        };
        let options = options.with_status_policy(UnknownStatusPolicy::Allow).build();
        let certificate = EndEntityCert::try_from(leaf).map_err(refusal)?;
        let usage = KeyUsage::server_auth();
        let verified = certificate.verify_for_usage(
            algorithms.all,
            &roots.roots,
            intermediates,
            now,
            usage,
            Some(options),
            None,
        );
        verified.map(drop).map_err(refusal)
    }
}

fn refusal(error: webpki::Error) -> Error {
    Error::InvalidCertificate(match error {
        webpki::Error::CertRevoked => CertificateError::Revoked,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    })
}
