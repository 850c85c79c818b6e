//! What a refused client is told that it may do: `www-authenticate` (RFC 9110 section 11.6.1, RFC 6750 section 3).

use http::request::Parts;
use http::{HeaderName, HeaderValue};

use super::status::JwtStatus;
use crate::request::{host, scheme};

/// The scheme that the client sees, rather than the tunnel's.
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// So many bytes of the path are told, as by Envoy.
const LONGEST: usize = 256;

/// The challenge for a request. Envoy tells the query, too; in that the token itself may be.
pub(super) fn challenge(request: &Parts, status: JwtStatus) -> Option<HeaderValue> {
    let forwarded = request.headers.get(FORWARDED_PROTO);
    let scheme = forwarded
        .and_then(|value| value.to_str().ok())
        .unwrap_or_else(|| scheme(request));
    let path = request.uri.path().bytes().take(LONGEST);
    let mut value = format!("Bearer realm=\"{scheme}://{}", host(request)).into_bytes();
    for byte in path {
        if matches!(byte, b'"' | b'\\') {
            value.push(b'\\');
        }
        value.push(byte);
    }
    value.push(b'"');
    if status != JwtStatus::Missing {
        value.extend_from_slice(b", error=\"invalid_token\"");
    }
    HeaderValue::try_from(value).ok()
}
