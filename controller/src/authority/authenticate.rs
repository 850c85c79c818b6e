//! Who calls: a bearer token is turned into the [`Caller`] that it was given to.
//!
//! Two kinds: [`Tokens`](super::Tokens), files that the controller made itself, and
//! [`TokenReviewer`](super::TokenReviewer), service account tokens about which the API server is asked.

use tonic::{Status, metadata::MetadataMap};

use super::{Authenticated, Source};

/// Turns tokens into callers.
#[tonic::async_trait]
pub(crate) trait Authenticator: Send + Sync + 'static {
    /// Whose token this is. `source` is where it comes from.
    ///
    /// # Errors
    /// Why the token is not accepted. No text of it is part of the reason.
    async fn authenticate(&self, token: &str, source: Source) -> Result<Authenticated, Unauthenticated>;
}

/// Why a caller is nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unauthenticated {
    #[error("there is no bearer token")]
    Missing,
    #[error("this is no valid token of a node or workload: no file here has it")]
    Unknown,
    #[error("the token is not accepted: {0}")]
    Refused(String),
    #[error("the token belongs to {0}, which is no service account")]
    Account(String),
    #[error("the token says nothing about its node: {0}")]
    NoNode(String),
    #[error("too many tokens that were not known came from {0}: wait a few seconds")]
    TooMany(Source),
    #[error("the API server cannot be asked about the token: {0}")]
    Unavailable(String),
}

impl Unauthenticated {
    /// As metrics name it.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::TooMany(_) => "limited",
            _ => "unauthenticated",
        }
    }
}

impl Unauthenticated {
    /// Says who was refused what. A flood of tokens makes no flood of lines.
    pub(crate) fn log(&self, source: Source, what: &'static str) {
        match self {
            Self::TooMany(_) => tracing::debug!(%source, reason = %self, "{what}"),
            _ => tracing::warn!(%source, reason = %self, "{what}"),
        }
    }
}

impl From<Unauthenticated> for Status {
    fn from(error: Unauthenticated) -> Self {
        match error {
            // The caller may well be who it says: it shall ask again.
            Unauthenticated::Unavailable(_) | Unauthenticated::TooMany(_) => Self::unavailable(error.to_string()),
            _ => Self::unauthenticated(error.to_string()),
        }
    }
}

/// Who made a call.
///
/// # Errors
/// When the call has no token, or one that is not accepted.
pub(crate) async fn authenticate(
    authenticator: &dyn Authenticator,
    metadata: &MetadataMap,
    source: Source,
) -> Result<Authenticated, Unauthenticated> {
    let header = metadata.get("authorization").and_then(|value| value.to_str().ok());
    let token = header.and_then(|text| text.strip_prefix("Bearer "));
    authenticator
        .authenticate(token.ok_or(Unauthenticated::Missing)?, source)
        .await
}
