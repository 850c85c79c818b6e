//! Roots, and which of them are trusted at a moment.
//!
//! A new signing certificate must not surprise anybody: first everybody is told its root, and only when all can have
//! heard of it does it sign. The root before stays trusted until everything that was signed under it has expired.
//!
//! ```text
//! trusted   old │ old, new              │ old, new               │ new
//! signs     old │ old (the overlap)     │ new                    │ new
//!          take(new)              overlap is over        leaves of old are over
//! ```

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_lc_rs::digest;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use super::signer::{Signer, certificates};

/// A certificate, in PEM and by its digest.
#[derive(Clone, Debug)]
pub(crate) struct Anchor {
    pem: Arc<str>,
    digest: [u8; 32],
}

impl PartialEq for Anchor {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Anchor {}

impl Anchor {
    pub(super) fn new(der: &CertificateDer<'_>) -> Self {
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        let text = BASE64_STANDARD.encode(der);
        // Base64 is ASCII, so that any place is one between characters.
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        let mut sum = [0; 32];
        sum.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Self {
            pem: pem.into(),
            digest: sum,
        }
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The first bytes of the digest, for people.
    pub(crate) fn short(&self) -> String {
        hex(&self.digest[..6])
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 2 * digest.len() {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// How long things last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Between telling a root and signing under it.
    pub(crate) overlap: Duration,
    /// The longest life of a leaf.
    pub(crate) leaf: Duration,
}

/// Who signs, who will, and what is trusted. Time is an argument throughout.
pub(super) struct Trust {
    times: Times,
    current: Option<Arc<Signer>>,
    next: Option<(Arc<Signer>, OffsetDateTime)>,
    /// Roots of earlier signers, and when the last leaf under each has expired.
    retained: Vec<(Anchor, OffsetDateTime)>,
    /// Since when each root has been told.
    told: BTreeMap<[u8; 32], OffsetDateTime>,
    /// Whether `told` goes back to before this controller began.
    resumed: bool,
}

impl Trust {
    pub(super) fn new(times: Times) -> Self {
        Self {
            times,
            current: None,
            next: None,
            retained: Vec::new(),
            told: BTreeMap::new(),
            resumed: false,
        }
    }

    /// What signed when this controller, or another one, was there last, and since when each root is known, by its digest in
    /// hexadecimal.
    pub(super) fn resume(
        &mut self,
        signer: Arc<Signer>,
        known: &BTreeMap<String, OffsetDateTime>,
        now: OffsetDateTime,
    ) {
        for anchor in signer.anchors() {
            self.told.insert(*anchor.digest(), OffsetDateTime::UNIX_EPOCH);
        }
        for (digest, at) in known {
            if let Some(digest) = parse_digest(digest) {
                // A time in the future is a clock's mistake.
                self.told.insert(digest, (*at).min(now));
            }
        }
        self.resumed = true;
        self.current = Some(signer);
    }

    /// Since when each trusted root is known, by its digest in hexadecimal.
    pub(super) fn known_since(&self) -> BTreeMap<String, OffsetDateTime> {
        self.told.iter().map(|(digest, at)| (hex(digest), *at)).collect()
    }

    pub(super) fn current(&self) -> Option<&Arc<Signer>> {
        self.current.as_ref()
    }

    pub(super) fn next(&self) -> Option<&(Arc<Signer>, OffsetDateTime)> {
        self.next.as_ref()
    }

    /// Roots that were told before this controller began: leaves under them may be about.
    pub(super) fn remember(&mut self, pem: &str, now: OffsetDateTime) {
        for der in certificates(pem, "the trust bundle").unwrap_or_default() {
            let anchor = Anchor::new(&der);
            let known = if self.resumed { now } else { OffsetDateTime::UNIX_EPOCH };
            self.told.entry(*anchor.digest()).or_insert(known);
            self.retain(anchor, now + self.times.leaf);
        }
        self.tick(now);
    }

    /// There is a signer, perhaps a new one.
    pub(super) fn take(&mut self, signer: Arc<Signer>, now: OffsetDateTime) {
        match &self.current {
            None => {
                // Nobody trusts anything yet, so nobody can be surprised.
                for anchor in signer.anchors() {
                    self.told.insert(*anchor.digest(), OffsetDateTime::UNIX_EPOCH);
                }
                self.current = Some(signer);
            }
            Some(current) if current.own() == signer.own() => {
                self.current = Some(signer);
                self.next = None;
            }
            Some(_) => {
                for anchor in signer.anchors() {
                    self.told.entry(*anchor.digest()).or_insert(now);
                }
                let told = signer
                    .anchors()
                    .iter()
                    .filter(|anchor| signer.ends_in(anchor))
                    .filter_map(|anchor| self.told.get(anchor.digest()))
                    .min();
                let due = told.map_or(now, |told| *told + self.times.overlap);
                self.next = Some((signer, due));
            }
        }
        self.tick(now);
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: OffsetDateTime) {
        let is_over = self
            .current
            .as_ref()
            .is_some_and(|current| current.check_clock(now).is_err());
        if let Some((next, _)) = self
            .next
            .take_if(|(next, due)| *due <= now || is_over && next.check_clock(now).is_ok())
            && let Some(before) = self.current.replace(next)
        {
            let until = now + self.times.leaf;
            for anchor in before.anchors() {
                self.retain(anchor.clone(), until);
            }
        }
        let current = self.current.clone();
        let is_current = |anchor: &Anchor| {
            current
                .as_ref()
                .is_some_and(|current| current.anchors().contains(anchor))
        };
        self.retained
            .retain(|(anchor, until)| now < *until && !is_current(anchor));
        let trusted: Vec<_> = self.anchors().iter().map(|anchor| *anchor.digest()).collect();
        self.told.retain(|digest, _| trusted.contains(digest));
    }

    /// When [`Trust::tick`] has something to do next.
    pub(super) fn due(&self) -> Option<OffsetDateTime> {
        let retained = self.retained.iter().map(|(_, until)| *until);
        retained.chain(self.next.iter().map(|(_, due)| *due)).min()
    }

    /// All roots that are trusted now, each once.
    pub(super) fn anchors(&self) -> Vec<Anchor> {
        let signers = self.current.iter().chain(self.next.iter().map(|(next, _)| next));
        let retained = self.retained.iter().map(|(anchor, _)| anchor);
        let mut all: Vec<Anchor> = Vec::new();
        for anchor in signers.flat_map(|signer| signer.anchors()).chain(retained) {
            if !all.contains(anchor) {
                all.push(anchor.clone());
            }
        }
        all
    }

    fn retain(&mut self, anchor: Anchor, until: OffsetDateTime) {
        match self.retained.iter_mut().find(|(known, _)| *known == anchor) {
            Some((_, known)) => *known = until.max(*known),
            None => self.retained.push((anchor, until)),
        }
    }
}

#[cfg(test)]
mod tests;
