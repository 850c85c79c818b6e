//! What can go wrong with keys, certificates and their files.

use std::{io, path::PathBuf};

use time::OffsetDateTime;

use super::signer::Unusable;

/// What can go wrong with the authority's files and keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    #[error("cannot read or write {path}")]
    File { path: PathBuf, source: io::Error },
    #[error("{origin} cannot be used for signing: {why}")]
    Unusable { origin: String, why: Unusable },
    #[error("{present} is there and {absent} is not; restore both from a backup, or remove both for a new root")]
    Half { present: PathBuf, absent: PathBuf },
    #[error(
        "the signing certificate in {origin} is valid from {not_before} to {not_after}, but the clock here says {now}; \
         correct the clock, or replace the certificate"
    )]
    Clock {
        origin: String,
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
        now: OffsetDateTime,
    },
    #[error("there is no signing certificate yet")]
    NoSigner,
    #[error("cannot make a key or certificate: {0}")]
    Crypto(#[from] rcgen::Error),
    #[error("`{0}` is no node name")]
    NodeName(String),
}
