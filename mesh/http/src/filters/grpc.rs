//! One call of gRPC with one message each way, as filters make it.

use std::time::Duration;

use http::response::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use prost::Message;

/// A service's answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Its head.
    pub head: Parts,
    /// Its body.
    pub body: Vec<u8>,
    /// What came behind it.
    pub trailers: Option<HeaderMap>,
}

/// The request of a call. None where the host is none, or the message too long.
pub(super) fn request(
    authority: &str,
    path: &str,
    timeout: Option<Duration>,
    metadata: &[(HeaderName, HeaderValue)],
    message: &impl Message,
) -> Option<Request<Vec<u8>>> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).ok()?;
    let mut body = Vec::with_capacity(message.len() + 5);
    body.push(0);
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(&message);
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri(authority, path)?;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    if let Some(timeout) = timeout
        && let Ok(value) = HeaderValue::try_from(self::timeout(timeout))
    {
        headers.insert("grpc-timeout", value);
    }
    for (name, value) in metadata {
        headers.append(name.clone(), value.clone());
    }
    Some(request)
}

/// The one message of an answer that says that all went well.
pub(super) fn message<M: Message + Default>(answer: &Answer) -> Option<M> {
    let status = |headers: &HeaderMap| headers.get("grpc-status").map(|status| status.as_bytes() == b"0");
    let trailers = answer.trailers.as_ref().and_then(status);
    if answer.head.status != StatusCode::OK || !trailers.or_else(|| status(&answer.head.headers)).unwrap_or(false) {
        return None;
    }
    let (prefix, message) = answer.body.split_at_checked(5)?;
    let length = u32::from_be_bytes(prefix.get(1..5)?.try_into().ok()?) as usize;
    // Nobody asked for compression.
    if prefix.first() != Some(&0) || message.len() != length {
        return None;
    }
    M::decode(message).ok()
}

/// A target at a host.
pub(super) fn uri(host: &str, path: &str) -> Option<Uri> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(Authority::try_from(host).ok()?);
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

/// At most eight digits, as gRPC wants it.
fn timeout(timeout: Duration) -> String {
    match timeout.as_millis() {
        millis if millis < 100_000_000 => format!("{millis}m"),
        _ => format!("{}S", timeout.as_secs().min(99_999_999)),
    }
}
