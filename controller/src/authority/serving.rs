//! The controller's own certificate: made anew at half of its life, and whenever another certificate signs.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::RwLock;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use time::OffsetDateTime;

use super::{Authority, AuthorityError, KeyedCertificate};

/// How soon a failure is tried again, and how often the clock is looked at, which may jump while a timer does not.
const RETRY: Duration = Duration::from_secs(10);
const CLOCK_CHECK: Duration = Duration::from_secs(60);

/// The certificate of the moment. Its key never leaves this process; another replica has another.
#[derive(Default)]
pub(crate) struct Serving {
    current: RwLock<Option<Arc<CertifiedKey>>>,
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.read().clone()
    }
}

impl Serving {
    /// TLS for the port. Handshakes fail until there is a certificate.
    ///
    /// # Errors
    /// When rustls refuses the configuration.
    pub(crate) fn tls(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let resolver: Arc<Self> = Arc::clone(self);
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    /// Keeps the certificate young. Never ends.
    pub(crate) async fn keep(&self, authority: &Authority, names: &[String]) {
        let mut signer = authority.signer();
        loop {
            signer.mark_unchanged();
            let renew_at = match self.renew(authority, names) {
                Ok(at) => at,
                Err(AuthorityError::NoSigner) => authority.clock().utc() + CLOCK_CHECK,
                Err(error) => {
                    tracing::error!(%error, "no certificate for the controller's own port; trying again in {RETRY:?}");
                    authority.clock().utc() + RETRY
                }
            };
            loop {
                let left = (renew_at - authority.clock().utc()).clamp(time::Duration::ZERO, time::Duration::MINUTE);
                if left.is_zero() {
                    break;
                }
                tokio::select! {
                    () = tokio::time::sleep(left.unsigned_abs()) => {}
                    // The authority outlives this, so that the channel is never closed.
                    _ = signer.changed() => break,
                }
            }
        }
    }

    fn renew(&self, authority: &Authority, names: &[String]) -> Result<OffsetDateTime, AuthorityError> {
        let now = authority.clock().utc();
        let made = authority.server_certificate(names)?;
        let not_after = made.not_after;
        *self.current.write() = Some(Arc::new(certified(&made)?));
        tracing::info!(?names, until = %not_after, "a certificate for the controller's own port");
        let half: time::Duration = (not_after - now) / 2;
        Ok(now + half.max(time::Duration::SECOND))
    }
}

fn certified(made: &KeyedCertificate) -> Result<CertifiedKey, AuthorityError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(made.chain.as_bytes())
        .filter_map(Result::ok)
        .collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.key.serialize_der()));
    let key = aws_lc_rs::sign::any_supported_type(&key).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    Ok(CertifiedKey::new(chain, key))
}
