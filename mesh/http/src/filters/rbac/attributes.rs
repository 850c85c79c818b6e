//! What access policies look at.

use http::request::Parts;

use crate::request::Peer;

/// A request and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// Its head, as the client sent it.
    pub request: &'a Parts,
    /// Who sent it, and where to.
    pub peer: &'a Peer<'a>,
    /// Dynamic metadata of the filter `envoy.filters.http.jwt_authn`: the payloads of tokens that were verified, by the names that the
    /// providers give them.
    pub tokens: Option<&'a serde_json::Map<String, serde_json::Value>>,
}
