//! Signing.

use std::time::Duration;

use culvert_identity::SpiffeId;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

use super::{AuthorityError, Root, root::BACKDATE};

/// The shortest leaf: below, renewal at half life would be a flood.
const SHORTEST: Duration = Duration::from_secs(60);

/// Signs with the root.
pub(crate) struct Authority {
    root: Root,
    longest: Duration,
}

/// Why a request is not signed though its sender was allowed to have it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    #[error("the certificate request does not parse, or its signature is wrong: {0}")]
    Request(String),
    #[error("the certificate request's key is not ECDSA P-256")]
    Key,
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// A key and a chain for the controller's own TLS port, PEM.
pub(crate) struct ServerCertificate {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Authority {
    /// An authority whose leaves live for at most `longest`.
    pub(crate) fn new(root: Root, longest: Duration) -> Self {
        Self {
            root,
            longest: longest.max(SHORTEST),
        }
    }

    /// The root certificate, PEM.
    pub(crate) fn root_pem(&self) -> &str {
        self.root.pem()
    }

    /// Signs a workload's request for `identity`; returns the chain, leaf first, root last, each PEM.
    ///
    /// # Errors
    /// When the request is malformed or of another key type, or the root is not valid now.
    pub(crate) fn sign(&self, csr: &str, identity: &SpiffeId, validity: Duration) -> Result<Vec<String>, SignError> {
        let request =
            CertificateSigningRequestParams::from_pem(csr).map_err(|error| SignError::Request(error.to_string()))?;
        if *request.public_key.algorithm() != rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(SignError::Key);
        }
        let mut params = self.leaf(validity)?;
        let uri = identity.as_str().try_into().map_err(AuthorityError::from)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params
            .signed_by(&request.public_key, &self.root.issuer)
            .map_err(AuthorityError::from)?;
        Ok(vec![leaf.pem(), self.root.pem().to_owned()])
    }

    /// Makes a certificate for the controller's own port, for DNS names and addresses.
    ///
    /// # Errors
    /// When a name is none, or the root is not valid now.
    pub(crate) fn server_certificate(&self, names: &[String]) -> Result<ServerCertificate, AuthorityError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = self.leaf(Duration::from_secs(365 * 24 * 3600))?;
        params.subject_alt_names = CertificateParams::new(names.to_vec())?.subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &self.root.issuer)?;
        Ok(ServerCertificate {
            chain: format!("{}{}", leaf.pem(), self.root.pem()),
            key: key.serialize_pem(),
        })
    }

    /// How long a leaf lives that was asked for with `validity`; zero asks for the longest.
    pub(crate) fn granted(&self, validity: Duration) -> Duration {
        if validity.is_zero() {
            self.longest
        } else {
            validity.clamp(SHORTEST, self.longest)
        }
    }

    fn leaf(&self, validity: Duration) -> Result<CertificateParams, AuthorityError> {
        let now = OffsetDateTime::now_utc();
        self.root.check_clock(now)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.not_before = now - BACKDATE;
        params.not_after = (now + validity).min(self.root.not_after());
        Ok(params)
    }
}
