//! Who calls: a bearer token is turned into the name of the node that it was given to.
//!
//! Two kinds: [`Tokens`](super::Tokens), files that the controller made itself, and
//! [`Reviewed`](super::Reviewed), service account tokens about which the API server is asked.

use tonic::{Status, metadata::MetadataMap};

/// Turns tokens into nodes.
#[tonic::async_trait]
pub(crate) trait Authenticator: Send + Sync + 'static {
    /// The node whose token this is.
    ///
    /// # Errors
    /// Why the token is not accepted. No text of it is part of the reason.
    async fn node_of(&self, token: &str) -> Result<String, Unauthenticated>;
}

/// Why a caller is nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unauthenticated {
    #[error("there is no bearer token")]
    Missing,
    #[error("this is no valid node token: no file here has it")]
    Unknown,
    #[error("the token is not accepted: {0}")]
    Refused(String),
    #[error("the token belongs to {0}, which is no account of a node's programs")]
    Account(String),
    #[error("the token says nothing about its node: {0}")]
    NoNode(String),
    #[error("the API server cannot be asked about the token: {0}")]
    Unavailable(String),
}

impl Unauthenticated {
    /// As metrics name it.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            _ => "unauthenticated",
        }
    }
}

impl From<Unauthenticated> for Status {
    fn from(error: Unauthenticated) -> Self {
        match error {
            // The caller may well be who it says: it shall ask again.
            Unauthenticated::Unavailable(_) => Self::unavailable(error.to_string()),
            _ => Self::unauthenticated(error.to_string()),
        }
    }
}

/// The node that made a call.
///
/// # Errors
/// When the call has no token, or one that is not accepted.
pub(crate) async fn caller(
    authenticator: &dyn Authenticator,
    metadata: &MetadataMap,
) -> Result<String, Unauthenticated> {
    let header = metadata.get("authorization").and_then(|value| value.to_str().ok());
    let token = header.and_then(|text| text.strip_prefix("Bearer "));
    authenticator.node_of(token.ok_or(Unauthenticated::Missing)?).await
}
