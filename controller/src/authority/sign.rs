//! Signing, with whoever signs at the moment.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use culvert_identity::SpiffeId;
use parking_lot::Mutex;
use rcgen::{CertificateParams, CertificateSigningRequestParams, KeyPair};
use time::OffsetDateTime;
use tokio::sync::watch;

use super::{
    AuthorityError, Material, Signer,
    bundle::{Times, Trust},
    leaf::{self, BACKDATE, SHORTEST},
};
use crate::clock::Clock;

/// Signs with a certificate that may be replaced at any time, and says what is to be trusted.
pub(crate) struct Authority {
    trust: Mutex<Trust>,
    signer: watch::Sender<Option<Arc<Signer>>>,
    bundle: watch::Sender<Arc<str>>,
    state: watch::Sender<Option<SigningState>>,
    longest: Duration,
    clock: Clock,
}

/// What a controller that starts must know to go on as this one does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SigningState {
    /// What signs.
    pub(crate) material: Material,
    /// Since when each trusted root is known, by its digest in hexadecimal.
    pub(crate) known_since: BTreeMap<String, OffsetDateTime>,
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

/// A key that was made here, and the chain of its certificate, PEM: for the controller's own TLS port, or for a workload that makes none
/// itself.
pub(crate) struct KeyedCertificate {
    pub(crate) chain: String,
    pub(crate) key: KeyPair,
    pub(crate) not_after: OffsetDateTime,
}

impl Authority {
    /// An authority without a signer, whose leaves live for at most `longest`. A new signer whose root nobody knows signs
    /// when that root has been told for `overlap`.
    pub(crate) fn new(longest: Duration, overlap: Duration, clock: Clock) -> Self {
        let longest = longest.max(SHORTEST);
        let leaf = longest + Duration::from_secs(BACKDATE.whole_seconds().unsigned_abs());
        Self {
            trust: Mutex::new(Trust::new(Times { overlap, leaf })),
            signer: watch::Sender::new(None),
            bundle: watch::Sender::new("".into()),
            state: watch::Sender::new(None),
            longest,
            clock,
        }
    }

    /// The clock by which it signs.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Takes a signer over: at once, or when everybody can have heard of its root.
    pub(crate) fn take(&self, signer: Arc<Signer>) {
        self.change(|trust, now| trust.take(signer, now));
    }

    /// Takes up signing where another controller, or this one before it was started again, left it.
    pub(crate) fn resume(&self, signer: Arc<Signer>, known_since: &BTreeMap<String, OffsetDateTime>) {
        self.change(|trust, now| trust.resume(signer, known_since, now));
    }

    /// What is to be kept for whoever starts next, as it changes; none while there is no signer.
    pub(crate) fn signing_state(&self) -> watch::Receiver<Option<SigningState>> {
        self.state.subscribe()
    }

    /// Roots that were told before this controller began stay trusted as long as leaves under them may be about.
    pub(crate) fn remember(&self, pem: &str) {
        self.change(|trust, now| trust.remember(pem, now));
    }

    /// Does what is due, now and whenever something will be. Never ends.
    pub(crate) async fn keep_time(&self) {
        let mut changes = self.signer.subscribe();
        let mut bundles = self.bundle.subscribe();
        loop {
            let due = self.trust.lock().due();
            let left = due.map_or(time::Duration::MINUTE, |due| due - self.clock.utc());
            // The clock may jump while a timer does not.
            let pause = left.clamp(time::Duration::ZERO, time::Duration::MINUTE).unsigned_abs();
            tokio::select! {
                () = tokio::time::sleep(pause) => self.change(Trust::tick),
                _ = changes.changed() => {}
                _ = bundles.changed() => {}
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut Trust, OffsetDateTime)) {
        let mut trust = self.trust.lock();
        change(&mut trust, self.clock.utc());
        let bundle: String = trust.anchors().iter().map(|anchor| anchor.pem()).collect();
        // What is trusted comes first: nobody may be shown a leaf under a root that was not told.
        self.bundle.send_if_modified(|told| {
            let changed = **told != *bundle;
            if changed {
                *told = bundle.into();
                tracing::info!(roots = ?trust.anchors().iter().map(super::Anchor::short).collect::<Vec<_>>(), "trusted roots");
            }
            changed
        });
        self.signer.send_if_modified(|signing| {
            let new = trust.current();
            let changed = match (signing.as_ref(), new) {
                (Some(before), Some(new)) => !Arc::ptr_eq(before, new),
                (before, new) => before.is_some() != new.is_some(),
            };
            if let Some(new) = new.filter(|_| changed) {
                tracing::info!(origin = new.origin(), certificate = new.own().short(), until = %new.not_after(), "signing");
                *signing = Some(Arc::clone(new));
            }
            changed
        });
        let state = trust.current().map(|signer| SigningState {
            material: signer.material().clone(),
            known_since: trust.known_since(),
        });
        self.state.send_if_modified(|kept| {
            let changed = *kept != state;
            if changed {
                *kept = state;
            }
            changed
        });
        if let Some((next, due)) = trust.next() {
            tracing::info!(certificate = next.own().short(), %due, "another signing certificate waits until its root is known");
        }
    }

    /// Who signs, as it changes.
    pub(crate) fn signer(&self) -> watch::Receiver<Option<Arc<Signer>>> {
        self.signer.subscribe()
    }

    /// The roots to be trusted, PEM, as they change; empty while there is no signer.
    pub(crate) fn bundle(&self) -> watch::Receiver<Arc<str>> {
        self.bundle.subscribe()
    }

    /// Signs a workload's request for `identity`; returns the chain, leaf first, each PEM. The last text holds all roots.
    ///
    /// # Errors
    /// When the request is malformed or of another key type, or nobody can sign now.
    pub(crate) fn sign(&self, csr: &str, identity: &SpiffeId, validity: Duration) -> Result<Vec<String>, SignError> {
        let request =
            CertificateSigningRequestParams::from_pem(csr).map_err(|error| SignError::Request(error.to_string()))?;
        if *request.public_key.algorithm() != rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(SignError::Key);
        }
        let signer = self.signing()?;
        let now = self.clock.utc();
        signer.check_clock(now)?;
        let params = leaf::workload(identity, now, validity, signer.not_after()).map_err(AuthorityError::from)?;
        let leaf = params
            .signed_by(&request.public_key, &signer.issuer)
            .map_err(AuthorityError::from)?;
        let mut chain = vec![leaf.pem()];
        chain.extend_from_slice(signer.chain());
        chain.push(self.bundle.borrow().to_string());
        Ok(chain)
    }

    /// Makes a certificate for the controller's own port, for DNS names and addresses.
    ///
    /// # Errors
    /// When a name is none, or nobody can sign now.
    pub(crate) fn server_certificate(&self, names: &[String]) -> Result<KeyedCertificate, AuthorityError> {
        self.keyed(|now, end| leaf::server(names, now, self.longest, end))
    }

    /// Makes a key and a certificate for a workload that cannot ask with a key of its own.
    ///
    /// # Errors
    /// When nobody can sign now.
    pub(crate) fn workload_certificate(&self, identity: &SpiffeId) -> Result<KeyedCertificate, AuthorityError> {
        self.keyed(|now, end| leaf::workload(identity, now, self.longest, end))
    }

    fn keyed(
        &self,
        params: impl FnOnce(OffsetDateTime, OffsetDateTime) -> Result<CertificateParams, rcgen::Error>,
    ) -> Result<KeyedCertificate, AuthorityError> {
        let signer = self.signing()?;
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let now = self.clock.utc();
        signer.check_clock(now)?;
        let params = params(now, signer.not_after())?;
        let leaf = params.signed_by(&key, &signer.issuer)?;
        Ok(KeyedCertificate {
            chain: leaf.pem() + &signer.chain().concat(),
            key,
            not_after: params.not_after,
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

    fn signing(&self) -> Result<Arc<Signer>, AuthorityError> {
        self.signer.borrow().clone().ok_or(AuthorityError::NoSigner)
    }
}
