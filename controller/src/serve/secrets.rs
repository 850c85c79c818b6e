//! What Envoy needs of a certificate, as the secrets that it asks for by name. `culvert-waypoint` keeps its key to itself and asks the
//! certificate service instead.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::digest;
use culvert_envoy::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use culvert_envoy::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret,
};
use culvert_xds::server::Entry;
use prost::Message as _;

use super::roots::Roots;
use crate::authority::{Authority, Caller};

/// Certificate and key of the caller's own identity.
static CERTIFICATE: LazyLock<Arc<str>> = LazyLock::new(|| "default".into());
/// What signs those of its peers.
static ROOTS: LazyLock<Arc<str>> = LazyLock::new(|| "ROOTCA".into());

/// After how long a certificate is asked for again where none could be made.
const RETRY: Duration = Duration::from_secs(10);

/// Who makes certificates, and for which trust domain.
#[derive(Clone)]
pub(crate) struct SecretSource {
    pub(crate) authority: Arc<Authority>,
    pub(crate) trust_domain: String,
}

/// The secrets of one stream. Nothing is made before it is asked for.
#[derive(Default)]
pub(super) struct Secrets {
    certificate: Option<Entry>,
    roots: Option<Entry>,
}

impl Secrets {
    /// Those that are there.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        let certificate = self.certificate.iter().map(|entry| (&*CERTIFICATE, entry));
        certificate.chain(self.roots.iter().map(|entry| (&*ROOTS, entry)))
    }

    /// Takes the roots of the moment.
    pub(super) fn set_roots(&mut self, roots: &Roots) {
        self.roots = (!roots.pem().is_empty()).then(|| {
            let context = CertificateValidationContext {
                trusted_ca: Some(inline(roots.pem())),
                ..CertificateValidationContext::default()
            };
            entry(&ROOTS, secret::Type::ValidationContext(context))
        });
    }

    /// Makes a key and a certificate for the caller's own identity. Returns after how long it is to be done again.
    pub(super) fn make_certificate(&mut self, source: &SecretSource, caller: &Caller) -> Duration {
        let Some(identity) = caller.own_identity(&source.trust_domain) else {
            return RETRY;
        };
        match source.authority.workload_certificate(&identity) {
            Ok(made) => {
                tracing::info!(%caller, %identity, until = %made.not_after, "made a certificate and its key");
                let certificate = TlsCertificate {
                    certificate_chain: Some(inline(&made.chain)),
                    private_key: Some(inline(&made.key.serialize_pem())),
                    ..TlsCertificate::default()
                };
                self.certificate = Some(entry(&CERTIFICATE, secret::Type::TlsCertificate(certificate)));
                let half: time::Duration = (made.not_after - source.authority.clock().utc()) / 2;
                half.max(time::Duration::SECOND).unsigned_abs()
            }
            Err(error) => {
                tracing::warn!(%caller, %identity, %error, "no certificate for a waypoint; trying again in {RETRY:?}");
                RETRY
            }
        }
    }
}

fn inline(text: &str) -> DataSource {
    DataSource {
        specifier: Some(Specifier::InlineString(text.to_owned())),
        ..DataSource::default()
    }
}

fn entry(name: &str, kind: secret::Type) -> Entry {
    let secret = Secret {
        name: name.to_owned(),
        r#type: Some(kind),
    };
    let body = secret.encode_to_vec();
    let hash = digest::digest(&digest::SHA256, &body);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_ref()[..8]);
    Entry {
        digest: u64::from_be_bytes(first),
        body: body.into(),
        aliases: Arc::from([]),
    }
}

#[cfg(test)]
mod tests {
    use culvert_identity::TrustBundle;

    use super::*;
    use crate::authority::{RootFolder, Signer};
    use crate::clock::Clock;

    fn secret(secrets: &Secrets, name: &str) -> Option<secret::Type> {
        let (_, entry) = secrets.all().find(|(known, _)| ***known == *name)?;
        let secret = Secret::decode(&*entry.body).unwrap();
        assert_eq!(secret.name, name);
        secret.r#type
    }

    fn text(source: Option<DataSource>) -> String {
        match source.and_then(|source| source.specifier) {
            Some(Specifier::InlineString(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn envoy_gets_a_certificate_of_the_callers_own_identity_with_its_key_and_the_roots() {
        let hour = Duration::from_secs(3600);
        let authority = Arc::new(Authority::new(hour, Duration::ZERO, Clock::system()));
        let source = SecretSource {
            authority: Arc::clone(&authority),
            trust_domain: "cluster.local".to_owned(),
        };
        let caller = Caller::Workload {
            namespace: "shop".to_owned(),
            account: "wp".to_owned(),
            pod: Some("wp-1".to_owned()),
            node: None,
        };
        let mut secrets = Secrets::default();
        assert_eq!(secrets.make_certificate(&source, &caller), RETRY, "nobody signs yet");
        assert_eq!(secrets.all().count(), 0);

        authority.take(signer());
        let renewal = secrets.make_certificate(&source, &caller);
        assert!(
            (hour / 2 - Duration::from_secs(60)..=hour / 2).contains(&renewal),
            "half of its life: {renewal:?}"
        );
        let roots = Roots::new(&authority.bundle().borrow());
        secrets.set_roots(&roots);
        let Some(secret::Type::TlsCertificate(certificate)) = secret(&secrets, "default") else {
            panic!("no certificate")
        };
        let Some(secret::Type::ValidationContext(context)) = secret(&secrets, "ROOTCA") else {
            panic!("no roots")
        };
        assert_eq!(text(context.trusted_ca), roots.pem());
        let (chain, key) = (text(certificate.certificate_chain), text(certificate.private_key));
        let bundle = TrustBundle::from_pem(roots.pem().as_bytes()).unwrap();
        let ders: Vec<_> =
            <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::pem_slice_iter(
                chain.as_bytes(),
            )
            .collect::<Result<_, _>>()
            .unwrap();
        let proved = bundle
            .verify(&ders, "cluster.local", std::time::SystemTime::now())
            .unwrap();
        assert!(
            format!("{proved:?}").contains("spiffe://cluster.local/ns/shop/sa/wp"),
            "{proved:?}"
        );
        assert!(rcgen::KeyPair::from_pem(&key).is_ok());
        // Each time another key.
        secrets.make_certificate(&source, &caller);
        let Some(secret::Type::TlsCertificate(again)) = secret(&secrets, "default") else {
            panic!("no certificate")
        };
        assert_ne!(text(again.private_key), key);
    }

    fn signer() -> Arc<Signer> {
        let folder = tempfile::tempdir().unwrap();
        Arc::new(RootFolder::new(folder.path(), "cluster.local").open().unwrap())
    }
}
