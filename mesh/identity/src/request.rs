//! Asking for a certificate.

use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::{Credentials, IdentityError, SpiffeId, TrustBundle, certificate};

/// A new key, and the request to certify it for one identity. The key never leaves this process.
pub struct CertificateRequest {
    identity: SpiffeId,
    key: KeyPair,
    csr_pem: String,
}

impl CertificateRequest {
    /// Makes an ECDSA P-256 key and a PKCS #10 request that names `identity` as its URI.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(identity: &SpiffeId) -> Result<Self, IdentityError> {
        let key_error = |error: rcgen::Error| IdentityError::Key(error.to_string());
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(key_error)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(identity.as_str().try_into().map_err(key_error)?)];
        let csr_pem = params
            .serialize_request(&key)
            .and_then(|request| request.pem())
            .map_err(key_error)?;
        Ok(Self {
            identity: identity.clone(),
            key,
            csr_pem,
        })
    }

    /// The request, PEM.
    pub fn csr_pem(&self) -> &str {
        &self.csr_pem
    }

    /// The identity asked for.
    pub fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// Turns the authority's answer into credentials.
    ///
    /// `chain` holds PEM texts, leaf first; each may hold several certificates.
    ///
    /// # Errors
    /// When the answer does not parse, is for another identity or another key, or is not valid now by the local clock.
    pub fn complete(self, chain: &[String], bundle: &TrustBundle) -> Result<Credentials, IdentityError> {
        let mut certificates: Vec<CertificateDer<'static>> = Vec::with_capacity(chain.len());
        for pem in chain {
            certificates.extend(certificate::from_pem(pem.as_bytes(), "certificate chain")?);
        }
        // Roots, which authorities put last, are of no use on the wire: a peer trusts the ones that it has.
        let mut place = 0;
        certificates.retain(|der| {
            place += 1;
            place == 1 || !certificate::parse(der).is_ok_and(|parsed| parsed.subject() == parsed.issuer())
        });
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let credentials = Credentials::new(certificates, key, bundle)?;
        if *credentials.identity() != self.identity {
            return Err(IdentityError::WrongIdentity {
                wanted: self.identity,
                got: credentials.identity().clone(),
            });
        }
        Ok(credentials)
    }
}
