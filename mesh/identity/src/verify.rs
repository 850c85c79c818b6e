//! Checking the certificate of the other end.
//!
//! Chains and signatures are rustls' and webpki's business; what is added here is the SPIFFE part: a workload has no DNS
//! name, so the name that a TLS client usually compares is replaced by the identity in the certificate's URI.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use crate::{IdentityError, SpiffeId, TrustBundle, peer_identity, provider};

impl TrustBundle {
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
        peer_identity(leaf)
    }
}

/// A refusal that TLS itself has no word for. It reaches the log through the error chain.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("peer is {got}, of another trust domain than {wanted}")]
    TrustDomain { got: SpiffeId, wanted: Box<str> },
    #[error("peer is {got}, expected one of {wanted:?}")]
    Identity { got: SpiffeId, wanted: Arc<[SpiffeId]> },
    #[error(transparent)]
    Certificate(#[from] IdentityError),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
    }
}

fn check_domain(end_entity: &CertificateDer<'_>, trust_domain: &str) -> Result<SpiffeId, Refusal> {
    let got = peer_identity(end_entity)?;
    if got.trust_domain() == trust_domain {
        Ok(got)
    } else {
        Err(Refusal::TrustDomain {
            got,
            wanted: trust_domain.into(),
        })
    }
}

/// What a tunnel's client demands of the server.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    bundle: TrustBundle,
    trust_domain: Box<str>,
    expected: Arc<[SpiffeId]>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    pub(crate) fn new(bundle: &TrustBundle, trust_domain: &str, expected: Arc<[SpiffeId]>) -> Self {
        let algorithms = provider().signature_verification_algorithms;
        Self {
            bundle: bundle.clone(),
            trust_domain: trust_domain.into(),
            expected,
            algorithms,
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let roots = self.bundle.roots();
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, self.algorithms.all)?;
        let revocations = self.bundle.revocations();
        revocations.check_server(end_entity, intermediates, roots, now, &self.algorithms)?;
        // Our roots speak for our trust domain alone. For a peer of another, also one that is expected by name, its domain's
        // bundle would be needed (SPIFFE Federation, section 5), and we have none.
        let got = check_domain(end_entity, &self.trust_domain)?;
        if !self.expected.contains(&got) {
            return Err(Refusal::Identity {
                got,
                wanted: Arc::clone(&self.expected),
            }
            .into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What a tunnel's server demands of the client: a chain, and an identity of the trust domain. Which identities may
/// reach the workload is decided by policy, for each stream.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    trust_domain: Box<str>,
}

impl ClientVerifier {
    pub(crate) fn new(bundle: &TrustBundle, trust_domain: &str) -> Result<Self, IdentityError> {
        let chain = WebPkiClientVerifier::builder_with_provider(Arc::clone(bundle.roots()), provider())
            .with_crls(bundle.revocations().der())
            .allow_unknown_revocation_status()
            .build()
            .map_err(|error| IdentityError::Tls(Error::General(error.to_string())))?;
        Ok(Self {
            chain,
            trust_domain: trust_domain.into(),
        })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Hints would only lengthen the handshake: a workload has one certificate.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        check_domain(end_entity, &self.trust_domain)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
