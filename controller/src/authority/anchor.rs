//! Certificates that something is verified against, by their digests.

use std::sync::Arc;

use aws_lc_rs::digest;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::error::Unusable;

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

/// The certificates in a PEM text; at least one.
pub(super) fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    read.ok().filter(|read| !read.is_empty()).ok_or(Unusable::Pem(what))
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A digest from hexadecimal.
pub(super) fn parse_digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 2 * digest.len() {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(digest)
}
