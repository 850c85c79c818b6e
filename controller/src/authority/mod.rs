//! The certificate authority: one root, made at the first start and kept, and short leaves for workloads.
//!
//! ```text
//! node proxy ──CSR, token──> [service] ── which node? [tokens] ── may it? Placement ── [sign] ──chain──> node proxy
//! ```
//!
//! The CSR proves possession of a key and nothing else: the identity in the certificate is the one that was authorised,
//! whatever the CSR asks for. A node gets only the identities of pods that run on it. Every refusal is logged
//! with node and identity, and counted.

mod root;
mod service;
mod sign;
mod tokens;

#[cfg(test)]
mod tests;

use std::{io, path::PathBuf};

pub(crate) use root::Root;
pub(crate) use service::bearer;
pub(crate) use service::{CertificateService, Placement, Refusal, SigningMetrics};
pub(crate) use sign::Authority;
pub(crate) use tokens::Tokens;

/// What can go wrong with the authority's files and keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    #[error("cannot read or write {path}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} is not what this controller wrote: {why}")]
    Damaged { path: PathBuf, why: String },
    #[error("{present} is there and {absent} is not; restore both from a backup, or remove both for a new root")]
    Half { present: PathBuf, absent: PathBuf },
    #[error(
        "the root certificate in {path} is valid from {not_before} to {not_after}, but the clock here says {now}; \
         correct the clock, or replace the root"
    )]
    Clock {
        path: PathBuf,
        not_before: time::OffsetDateTime,
        not_after: time::OffsetDateTime,
        now: time::OffsetDateTime,
    },
    #[error("cannot make a key or certificate: {0}")]
    Crypto(#[from] rcgen::Error),
    #[error("`{0}` is no node name")]
    NodeName(String),
}
