//! A signing certificate that has proved to be of use.

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, SystemTime},
};

use culvert_identity::{SpiffeId, TrustBundle};
use rcgen::{Issuer, KeyPair, PublicKeyData as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{AuthorityError, bundle::Anchor, sign};

/// The PEM texts of a signing certificate, as files or a Secret in cert-manager's layout have them.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Material {
    /// The signing certificate, then those between it and the root.
    pub(crate) certificate: String,
    /// Its key.
    pub(crate) key: String,
    /// The roots. Empty when the last certificate is its own root.
    pub(crate) roots: String,
}

impl fmt::Debug for Material {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Material");
        shown
            .field("certificate", &self.certificate)
            .field("roots", &self.roots);
        shown.finish_non_exhaustive()
    }
}

/// Why a signing certificate is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("{0} holds no certificate in PEM form, or a damaged one")]
    Pem(&'static str),
    #[error("a certificate does not parse: {0}")]
    Parse(String),
    #[error("its key does not parse: {0}")]
    Key(String),
    #[error("its key belongs to another certificate")]
    KeyMismatch,
    #[error("it may not sign certificates: it lacks `CA:TRUE`, or its key usage lacks `keyCertSign`")]
    NotCa,
    #[error("`ca.crt` holds no root, and the last certificate is not one either")]
    NoRoot,
    #[error("a certificate above it allows no certificate authority that far below it (its path length)")]
    PathLength,
    #[error("what it signs would be refused by every node: {0}")]
    Trial(String),
}

/// Able to sign.
pub(crate) struct Signer {
    pub(super) issuer: Issuer<'static, KeyPair>,
    /// What follows a leaf on the wire, PEM: the signing certificate and its intermediates, without the root.
    chain: Vec<String>,
    anchors: Vec<Anchor>,
    /// Those anchors in which the chain really ends.
    ends_in: BTreeSet<[u8; 32]>,
    own: Anchor,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    origin: String,
    material: Material,
}

impl Signer {
    /// Checks everything that can be checked: that the key belongs to the certificate, that it may sign, and that a leaf
    /// of `trust_domain` which it signs is accepted by those who trust the roots. `origin` says where it comes from.
    ///
    /// # Errors
    /// Why it is of no use.
    pub(crate) fn new(material: Material, origin: &str, trust_domain: &str) -> Result<Self, Unusable> {
        let ders = certificates(&material.certificate, "the signing certificate")?;
        let own = ders.first().ok_or(Unusable::Pem("the signing certificate"))?;
        let parsed = parse(own)?;
        let key =
            PrivateKeyDer::from_pem_slice(material.key.as_bytes()).map_err(|error| Unusable::Key(error.to_string()))?;
        let key = KeyPair::try_from(&key).map_err(|error| Unusable::Key(error.to_string()))?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(Unusable::KeyMismatch);
        }
        let may_sign = parsed
            .key_usage()
            .ok()
            .flatten()
            .is_none_or(|usage| usage.value.key_cert_sign());
        if !parsed.is_ca() || !may_sign {
            return Err(Unusable::NotCa);
        }
        let (mut not_before, mut not_after) = (OffsetDateTime::UNIX_EPOCH, OffsetDateTime::UNIX_EPOCH);
        let mut chain = Vec::new();
        for (place, der) in ders.iter().enumerate() {
            let parsed = parse(der)?;
            let validity = parsed.validity();
            let (begin, end) = (validity.not_before.to_datetime(), validity.not_after.to_datetime());
            not_before = if place == 0 { begin } else { not_before.max(begin) };
            not_after = if place == 0 { end } else { not_after.min(end) };
            if !allows_below(&parsed, place) {
                return Err(Unusable::PathLength);
            }
            if !is_self_issued(&parsed) {
                chain.push(Anchor::new(der).pem().to_owned());
            }
        }
        let anchors = roots(&material, &ders)?;
        let issuer = Issuer::from_ca_cert_der(own, key).map_err(|error| Unusable::Parse(error.to_string()))?;
        let mut signer = Self {
            issuer,
            chain,
            anchors,
            ends_in: BTreeSet::new(),
            own: Anchor::new(own),
            not_before,
            not_after,
            origin: origin.to_owned(),
            material,
        };
        signer.ends_in = signer.try_out(trust_domain)?;
        Ok(signer)
    }

    /// Signs for nobody and checks the result as nodes would: path length, name constraints, usages and whatever else
    /// they would mind. Returns the roots to which a chain was found.
    fn try_out(&self, trust_domain: &str) -> Result<BTreeSet<[u8; 32]>, Unusable> {
        let failed = |error: &dyn std::fmt::Display| Unusable::Trial(error.to_string());
        let now = OffsetDateTime::now_utc();
        // A wrong clock is said when something is signed: it may be put right.
        let at = now.clamp(self.not_before, self.not_after - time::Duration::seconds(1));
        let identity = SpiffeId::new(trust_domain, "trial", "trial").map_err(|error| failed(&error))?;
        let leaf = sign::trial(self, &identity, at).map_err(|error| failed(&error))?;
        let mut presented = vec![leaf];
        for pem in &self.chain {
            presented.extend(certificates(pem, "an intermediate")?);
        }
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(at.unix_timestamp().try_into().unwrap_or(0));
        let mut found = BTreeSet::new();
        let mut last = None;
        for anchor in &self.anchors {
            // The nodes' library does not look at a root's own path length; others do.
            let root = certificates(anchor.pem(), "`ca.crt`")?;
            if !parse(&root[0]).is_ok_and(|root| allows_below(&root, self.chain.len())) {
                last = Some(Unusable::PathLength);
                continue;
            }
            let bundle = TrustBundle::from_pem(anchor.pem().as_bytes()).map_err(|error| failed(&error))?;
            match bundle.verify(&presented, trust_domain, at) {
                Ok(_) => drop(found.insert(*anchor.digest())),
                Err(error) => last = Some(failed(&error)),
            }
        }
        match last {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    /// What follows a leaf, PEM.
    pub(crate) fn chain(&self) -> &[String] {
        &self.chain
    }

    /// The roots that came with it.
    pub(crate) fn anchors(&self) -> &[Anchor] {
        &self.anchors
    }

    /// Whether a chain from it ends in a root.
    pub(crate) fn ends_in(&self, anchor: &Anchor) -> bool {
        self.ends_in.contains(anchor.digest())
    }

    /// The signing certificate.
    pub(crate) fn own(&self) -> &Anchor {
        &self.own
    }

    /// Where it comes from.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// What it was made from.
    pub(crate) fn material(&self) -> &Material {
        &self.material
    }

    /// Start of validity, of the last to begin in the chain.
    pub(crate) fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// End of validity, of the first to end in the chain.
    pub(crate) fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Refuses when it is not valid at `now`: one of the clocks that matter is wrong, or it was not replaced in time, and
    /// whatever were signed would be refused everywhere.
    pub(crate) fn check_clock(&self, now: OffsetDateTime) -> Result<(), AuthorityError> {
        if self.not_before <= now && now < self.not_after {
            return Ok(());
        }
        Err(AuthorityError::Clock {
            origin: self.origin.clone(),
            not_before: self.not_before,
            not_after: self.not_after,
            now,
        })
    }
}

fn roots(material: &Material, chain: &[CertificateDer<'static>]) -> Result<Vec<Anchor>, Unusable> {
    let mut anchors = Vec::new();
    if !material.roots.trim().is_empty() {
        for der in certificates(&material.roots, "`ca.crt`")? {
            let anchor = Anchor::new(&der);
            if !anchors.contains(&anchor) {
                anchors.push(anchor);
            }
        }
    } else if let Some(last) = chain.last() {
        if !is_self_issued(&parse(last)?) {
            return Err(Unusable::NoRoot);
        }
        anchors.push(Anchor::new(last));
    }
    Ok(anchors)
}

pub(super) fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    read.ok().filter(|read| !read.is_empty()).ok_or(Unusable::Pem(what))
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Unusable> {
    let parsed = X509Certificate::from_der(der);
    parsed
        .map(|(_, parsed)| parsed)
        .map_err(|error| Unusable::Parse(error.to_string()))
}

/// Whether a certificate may have so many certificate authorities below it.
fn allows_below(certificate: &X509Certificate<'_>, authorities: usize) -> bool {
    let limits = certificate.basic_constraints().ok().flatten();
    let limit = limits.and_then(|limits| limits.value.path_len_constraint);
    limit.is_none_or(|limit| usize::try_from(limit).is_ok_and(|limit| authorities <= limit))
}

fn is_self_issued(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

#[cfg(test)]
mod tests;
