//! What is demanded of a server's certificate: who signed it, and one of some names.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use webpki::EndEntityCert;

/// A name that a certificate may be for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A host, or an address: as TLS clients compare it.
    Server(ServerName<'static>),
    /// A host name that begins with a star: the certificate has to have it as it stands.
    Wildcard(String),
    /// A URI, letter by letter.
    Uri(String),
}

/// The certificate is good, and for somebody else.
#[derive(Debug, thiserror::Error)]
#[error("the certificate is for none of {wanted:?}")]
struct OtherName {
    wanted: Vec<Name>,
}

/// Verifies certificates of servers.
#[derive(Debug)]
pub(super) struct Verifier {
    /// None looks at nothing.
    roots: Option<Arc<RootCertStore>>,
    names: Vec<Name>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(provider: &CryptoProvider, roots: Option<Arc<RootCertStore>>, names: Vec<Name>) -> Self {
        Self {
            roots,
            names,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    fn is_for_one(&self, certificate: &EndEntityCert<'_>) -> bool {
        self.names.iter().any(|name| match name {
            Name::Server(name) => certificate.verify_is_valid_for_subject_name(name).is_ok(),
            Name::Wildcard(name) => certificate
                .valid_dns_names()
                .any(|known| known.eq_ignore_ascii_case(name)),
            Name::Uri(uri) => certificate.valid_uri_names().any(|known| known == uri),
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(roots) = &self.roots else {
            return Ok(ServerCertVerified::assertion());
        };
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, self.algorithms.all)?;
        let certificate =
            EndEntityCert::try_from(end_entity).map_err(|_| Error::from(CertificateError::BadEncoding))?;
        if !self.names.is_empty() && !self.is_for_one(&certificate) {
            let wanted = self.names.clone();
            let refusal = CertificateError::Other(OtherError(Arc::new(OtherName { wanted })));
            return Err(refusal.into());
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

/// Whether an error says that a certificate is for somebody else.
pub(super) fn is_other_name(error: &CertificateError) -> bool {
    match error {
        CertificateError::Other(OtherError(error)) => error.is::<OtherName>(),
        _ => false,
    }
}
