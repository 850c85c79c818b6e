//! What can go wrong with keys, certificates and their files.

use std::{io, path::PathBuf};

use time::OffsetDateTime;

/// What can go wrong with the authority's files and keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    #[error("cannot read or write {path}")]
    File { path: PathBuf, source: io::Error },
    #[error("{origin} cannot be used for signing: {why}")]
    Unusable { origin: String, why: Unusable },
    #[error(
        "{path} says what signed before, and cannot be used: {why}; restore it from a backup, or remove it to sign under \
         the root at once, which breaks connections if that was replaced"
    )]
    State { path: PathBuf, why: String },
    #[error("{path} cannot be used: {why}; mend or remove it (--ca-crl)")]
    Revocations { path: PathBuf, why: String },
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
    #[error("`{0}` is no namespace, pod and service account")]
    WorkloadName(String),
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
