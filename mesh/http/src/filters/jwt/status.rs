//! Why a token does not count, in Envoy's words, which are the body of the answer.

use http::StatusCode;

/// Why a request does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtStatus {
    /// There is no token.
    #[error("Jwt is missing")]
    Missing,
    /// There is one of somebody that the provider does not know.
    #[error("Jwt issuer is not configured")]
    UnknownIssuer,
    /// It is not three parts of base64 with JSON in the first two.
    #[error("Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections")]
    Malformed,
    /// It is signed in a way that is not served: `none`, for example.
    #[error("Jwt header [alg] is not supported")]
    Algorithm,
    /// Its time is over.
    #[error("Jwt is expired")]
    Expired,
    /// Its time has not come.
    #[error("Jwt not yet valid")]
    NotYetValid,
    /// It is for others.
    #[error("Audiences in Jwt are not allowed")]
    Audience,
    /// It is of somebody who may not.
    #[error("Subject in Jwt is not allowed")]
    Subject,
    /// It says nothing of its end, which the provider wants.
    #[error("Jwt must have an expiration time")]
    NoExpiration,
    /// The provider has no key that fits.
    #[error("Jwks doesn't have key to match kid or alg from Jwt")]
    NoKey,
    /// It is not signed by the key.
    #[error("Jwt verification fails")]
    Signature,
}

impl JwtStatus {
    /// The status of the answer: 403 for tokens that are for others, else 401.
    pub fn http_status(self) -> StatusCode {
        match self {
            Self::Audience => StatusCode::FORBIDDEN,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    /// Whether there was nothing for the provider to judge.
    pub(super) fn is_absent(self) -> bool {
        matches!(self, Self::Missing | Self::UnknownIssuer)
    }
}
