//! A certificate with its key, ready for TLS.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    ClientConfig, ServerConfig,
    client::ResolvesClientCert,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::ResolvesServerCert,
    sign::CertifiedKey,
};

use crate::{IdentityError, SpiffeId, TrustBundle, certificate, provider, verify};

/// One workload's certificate chain and key, with the roots against which it checks its peers.
///
/// Made by [`CertificateRequest::complete`](crate::CertificateRequest::complete), or from files with
/// [`Credentials::from_pem`].
pub struct Credentials {
    identity: SpiffeId,
    not_before: SystemTime,
    not_after: SystemTime,
    serial: String,
    bundle: TrustBundle,
    key: Arc<CertifiedKey>,
    server_config: Arc<ServerConfig>,
}

impl Credentials {
    /// Reads a chain (leaf first) and its PKCS #8, SEC1 or PKCS #1 key from PEM.
    ///
    /// # Errors
    /// When either does not parse, the key belongs to another certificate, or the certificate is not valid now.
    pub fn from_pem(chain: &[u8], key: &[u8], bundle: &TrustBundle) -> Result<Self, IdentityError> {
        use rustls::pki_types::pem::PemObject as _;
        let chain = certificate::from_pem(chain, "certificate chain")?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| IdentityError::Key(error.to_string()))?;
        Self::new(chain, key, bundle)
    }

    pub(crate) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        bundle: &TrustBundle,
    ) -> Result<Self, IdentityError> {
        let leaf = chain.first().ok_or(IdentityError::Pem {
            what: "certificate chain",
        })?;
        let parsed = certificate::parse(leaf)?;
        let identity = certificate::identity_of(&parsed)?;
        let (not_before, not_after) = (
            parsed.validity().not_before.timestamp(),
            parsed.validity().not_after.timestamp(),
        );
        let now = seconds(SystemTime::now());
        if now < not_before {
            return Err(IdentityError::NotYetValid {
                identity,
                not_before,
                now,
            });
        }
        if now >= not_after {
            return Err(IdentityError::Expired {
                identity,
                not_after,
                now,
            });
        }
        let serial = parsed.tbs_certificate.raw_serial_as_string();
        let provider = provider();
        let key = provider.key_provider.load_private_key(key)?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match()
            .map_err(|error| IdentityError::Key(error.to_string()))?;
        let key = Arc::new(key);
        Ok(Self {
            server_config: accept(&key, &identity, bundle)?,
            identity,
            not_before: time(not_before),
            not_after: time(not_after),
            serial,
            bundle: bundle.clone(),
            key,
        })
    }

    /// The same certificate and key, with other roots against which peers are checked. Connections that are open are not
    /// concerned.
    ///
    /// # Errors
    /// When rustls refuses the configuration.
    pub fn with_bundle(&self, bundle: &TrustBundle) -> Result<Self, IdentityError> {
        Ok(Self {
            identity: self.identity.clone(),
            not_before: self.not_before,
            not_after: self.not_after,
            serial: self.serial.clone(),
            bundle: bundle.clone(),
            key: Arc::clone(&self.key),
            server_config: accept(&self.key, &self.identity, bundle)?,
        })
    }

    /// Whose certificate this is.
    pub fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// Start of validity.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// End of validity.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// When to ask for the next certificate: half-way through this one's validity.
    pub fn renew_at(&self) -> SystemTime {
        let validity = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_before + validity / 2
    }

    /// Whether the certificate is still valid at `now`.
    pub fn valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// The serial number in hexadecimal.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The roots against which peers are checked.
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// TLS for accepting tunnels: demands a client certificate of this trust domain.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server_config)
    }

    /// TLS for opening a tunnel to one of `expected`. Where nobody is expected, nobody is accepted.
    ///
    /// # Errors
    /// When rustls refuses the configuration.
    pub fn client_config(&self, expected: Arc<[SpiffeId]>) -> Result<Arc<ClientConfig>, IdentityError> {
        let verifier = verify::ServerVerifier::new(&self.bundle, self.identity.trust_domain(), expected);
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(Fixed(Arc::clone(&self.key))));
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.enable_secret_extraction = true;
        config.enable_sni = false;
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }
}

fn accept(
    key: &Arc<CertifiedKey>,
    identity: &SpiffeId,
    bundle: &TrustBundle,
) -> Result<Arc<ServerConfig>, IdentityError> {
    let clients = verify::ClientVerifier::new(bundle, identity.trust_domain())?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(clients))
        .with_cert_resolver(Arc::new(Fixed(Arc::clone(key))));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.enable_secret_extraction = true;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(Arc::new(config))
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("identity", &self.identity)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

/// Always the same certificate.
#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl ResolvesClientCert for Fixed {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn seconds(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds.max(0) as u64)
}
