//! A service that a rule asks whether a request may pass, in our own words: the filter `ExternalAuth` of HTTPRoute.

use super::model::Backend;

/// Who is asked, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExternalAuth {
    pub(crate) backend: Backend,
    /// The name under which it is asked.
    pub(crate) host: String,
    pub(crate) protocol: Protocol,
    /// Names of request headers that it sees, in lower case. Empty is all of them over gRPC, and over HTTP none but those that it
    /// always sees.
    pub(crate) request_headers: Vec<String>,
    /// How many bytes of a request's body it sees; none: nothing. A longer body is refused.
    pub(crate) body: Option<u32>,
}

/// What it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Envoy's `envoy.service.auth.v3.Authorization`.
    Grpc,
    /// It gets the request's head, and answers 200 where the request may pass.
    Http {
        /// In front of the request's path.
        prefix: String,
        /// Names of headers of its answer with which the request goes on, in lower case; empty is all of them.
        response_headers: Vec<String>,
    },
}
