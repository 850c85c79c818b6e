//! What can be wrong with certificates and keys.

use crate::{SpiffeError, SpiffeId};

/// Why an identity could not be proved, checked or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A PEM text holds no certificate, or one that does not decode.
    #[error("{what}: no certificate in PEM form")]
    Pem {
        /// Which text.
        what: &'static str,
    },
    /// A certificate revocation list does not parse.
    #[error("certificate revocation list does not parse: {0}")]
    Revocation(String),
    /// A certificate does not parse as X.509.
    #[error("certificate does not parse: {0}")]
    Parse(String),
    /// A certificate names no URI, or more than one.
    #[error("certificate has {0} URIs in its subject alternative names; a SPIFFE certificate has exactly one")]
    Uris(usize),
    /// The certificate's URI is no SPIFFE ID.
    #[error(transparent)]
    Spiffe(#[from] SpiffeError),
    /// The authority answered with a certificate for somebody else.
    #[error("asked for a certificate for {wanted}, got one for {got}")]
    WrongIdentity {
        /// Asked for.
        wanted: SpiffeId,
        /// Answered.
        got: SpiffeId,
    },
    /// The certificate's time has not come: one of the two clocks is wrong.
    #[error("certificate for {identity} is not valid before {not_before} (unix seconds); the clock here says {now}")]
    NotYetValid {
        /// Whose.
        identity: SpiffeId,
        /// Start of validity.
        not_before: i64,
        /// Local time.
        now: i64,
    },
    /// The certificate's time is over.
    #[error("certificate for {identity} expired at {not_after} (unix seconds); the clock here says {now}")]
    Expired {
        /// Whose.
        identity: SpiffeId,
        /// End of validity.
        not_after: i64,
        /// Local time.
        now: i64,
    },
    /// A key could not be made, or does not belong to the certificate.
    #[error("key: {0}")]
    Key(String),
    /// rustls refused the configuration.
    #[error("TLS configuration: {0}")]
    Tls(#[from] rustls::Error),
}
