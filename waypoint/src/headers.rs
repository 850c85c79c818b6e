//! Headers that a proxy must look after, whatever routes say.

use std::net::IpAddr;

use crate::path;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header, request,
    uri::{Authority, PathAndQuery, Scheme},
};

/// Which addresses a request came by, the nearest at the end.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The scheme of the client.
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// By which a request is found in the logs of all that saw it.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers that belong to one connection alone (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What only a proxy inside may say to the next, and what is never believed of a client.
const INTERNAL: [HeaderName; 13] = [
    // Who a client is, is known by the tunnel.
    HeaderName::from_static("x-forwarded-client-cert"),
    HeaderName::from_static("x-envoy-decorator-operation"),
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms"),
    HeaderName::from_static("x-envoy-external-address"),
    HeaderName::from_static("x-envoy-hedge-on-per-try-timeout"),
    HeaderName::from_static("x-envoy-internal"),
    HeaderName::from_static("x-envoy-max-retries"),
    HeaderName::from_static("x-envoy-original-path"),
    HeaderName::from_static("x-envoy-retriable-header-names"),
    HeaderName::from_static("x-envoy-retry-grpc-on"),
    HeaderName::from_static("x-envoy-retry-on"),
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-ms"),
];

/// What has a meaning for the message as a whole, which was handled by then.
const FORBIDDEN_TRAILERS: [HeaderName; 8] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::EXPECT,
    header::HOST,
    header::RANGE,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
];

/// Why a request is refused before anything else is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRequest {
    /// HTTP/1.1 without, or with more than one, Host.
    Host,
    /// Something in the path that no path has.
    Path,
    /// A body in a coding that is not undone here (RFC 9112 section 6.1): anything but chunks.
    Coding,
}

/// Whether this is gRPC: `application/grpc`, or `+` and something behind it.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = value.and_then(|value| value.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+"))
}

/// The protocol that a client asks to change to (RFC 9110 section 7.8), in lower case.
pub fn upgrade(request: &request::Parts) -> Option<String> {
    if request.version != Version::HTTP_11 || !has_token(&request.headers, "upgrade") {
        return None;
    }
    let value = request.headers.get(header::UPGRADE)?.to_str().ok()?;
    Some(value.trim().to_ascii_lowercase())
}

fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let values = headers.get_all(header::CONNECTION).iter();
    let tokens = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tokens.map(str::trim).any(|found| found.eq_ignore_ascii_case(token))
}

/// Makes of a request what routes look at: an absolute target with its authority, no Host beside it, nothing that belongs to the
/// client's connection, and what the waypoint knows of the client: its [`address`].
///
/// # Errors
/// When it makes no sense.
pub fn receive(request: &mut request::Parts, client: &HeaderValue) -> Result<(), BadRequest> {
    if !has_plain_coding(&request.headers) {
        return Err(BadRequest::Coding);
    }
    let authority = authority(request)?;
    let path = request.uri.path_and_query().cloned();
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(scheme(request));
    uri.authority = Some(authority);
    uri.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    request.uri = Uri::from_parts(uri).map_err(|_| BadRequest::Path)?;
    let headers = &mut request.headers;
    headers.remove(header::HOST);
    remove_hop_by_hop(headers);
    let takes_trailers = |value: &HeaderValue| {
        let value = value.to_str().unwrap_or_default();
        value
            .split(',')
            .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
    };
    let trailers = headers.get_all(header::TE).iter().any(takes_trailers);
    headers.remove(header::TE);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    // Answered here, by reading the body.
    headers.remove(header::EXPECT);
    join_cookies(headers);
    remove_internal(headers);
    append_address(headers, client);
    if !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !headers.contains_key(REQUEST_ID) {
        headers.insert(REQUEST_ID, request_id());
    }
    Ok(())
}

/// The scheme of a request, as Envoy has it: that of an absolute target or of HTTP/2, else what the proxy before this one says that clients
/// spoke to it. Inside the tunnel nobody speaks TLS.
fn scheme(request: &request::Parts) -> Scheme {
    let is_https = match (request.uri.scheme(), request.headers.get(FORWARDED_PROTO)) {
        (Some(scheme), _) => *scheme == Scheme::HTTPS,
        (None, said) => said.is_some_and(|said| said.as_bytes().eq_ignore_ascii_case(b"https")),
    };
    match is_https {
        true => Scheme::HTTPS,
        false => Scheme::HTTP,
    }
}

/// Who is meant: the target's authority before Host (RFC 9112 section 3.2.2).
fn authority(request: &request::Parts) -> Result<Authority, BadRequest> {
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return Err(BadRequest::Host);
    }
    let authority = match request.uri.authority() {
        // A target such as `one` is one of CONNECT alone (RFC 9112 section 3.2.3).
        Some(_) if request.uri.scheme().is_none() && request.method != Method::CONNECT => return Err(BadRequest::Path),
        Some(authority) => authority.clone(),
        None => {
            let host = host.ok_or(BadRequest::Host)?;
            Authority::try_from(host.as_bytes()).map_err(|_| BadRequest::Host)?
        }
    };
    // With a user in front of it (RFC 9110 section 4.2.4), routes and applications may see different hosts.
    match authority.as_str().contains('@') {
        true => Err(BadRequest::Host),
        false => Ok(authority),
    }
}

/// Whether a body comes as it is, or in chunks and nothing else.
fn has_plain_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_chunks = |coding: &HeaderValue| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    codings.next().is_none_or(is_chunks) && codings.next().is_none()
}

/// Removes what nobody may say only after a body (RFC 9110 section 6.5.1): where the body ends, for whom the message is, who sends it.
pub fn clean_trailers(trailers: &mut HeaderMap) {
    let is_forbidden = |name: &&HeaderName| {
        const PREFIXES: [&str; 4] = ["content-", "x-envoy-", "x-forwarded-", "proxy-"];
        FORBIDDEN_TRAILERS.contains(name)
            || HOP_BY_HOP.contains(name)
            || INTERNAL.contains(name)
            || PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
    };
    let forbidden: Vec<HeaderName> = trailers.keys().filter(is_forbidden).cloned().collect();
    forbidden.iter().for_each(|name| drop(trailers.remove(name)));
}

/// A header's first value, for people.
pub fn text(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name);
    value.map_or_else(String::new, |value| {
        String::from_utf8_lossy(value.as_bytes()).into_owned()
    })
}

/// Makes paths that mean the same the same, as the chain says.
///
/// # Errors
/// When the path has a byte in it that no path has.
pub fn normalize(request: &mut request::Parts, dots: bool, slashes: bool) -> Result<(), BadRequest> {
    if !dots && !slashes {
        return Ok(());
    }
    let path = request.uri.path();
    if !path.starts_with('/') {
        return Ok(());
    }
    let mut normal = if dots {
        path::normalize(path).ok_or(BadRequest::Path)?
    } else {
        path.to_owned()
    };
    if slashes {
        while normal.contains("//") {
            normal = normal.replace("//", "/");
        }
    }
    if normal == path {
        return Ok(());
    }
    if let Some(query) = request.uri.query() {
        normal.push('?');
        normal.push_str(query);
    }
    let mut parts = std::mem::take(&mut request.uri).into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(normal).map_err(|_| BadRequest::Path)?);
    request.uri = Uri::from_parts(parts).map_err(|_| BadRequest::Path)?;
    Ok(())
}

/// Puts a request into the form that an endpoint takes which speaks this version.
///
/// # Errors
/// When the authority is none that a header can have.
pub fn send(request: &mut request::Parts, is_http2: bool) -> Result<(), BadRequest> {
    let mut uri = std::mem::take(&mut request.uri).into_parts();
    if is_http2 {
        request.version = Version::HTTP_2;
        uri.scheme.get_or_insert(Scheme::HTTP);
    } else {
        request.version = Version::HTTP_11;
        let host = uri.authority.take().ok_or(BadRequest::Host)?;
        let host = HeaderValue::from_str(host.as_str()).map_err(|_| BadRequest::Host)?;
        uri.scheme = None;
        request.headers.insert(header::HOST, host);
    }
    request.uri = Uri::from_parts(uri).map_err(|_| BadRequest::Path)?;
    Ok(())
}

/// Removes what belongs to one connection alone, and what `Connection` names.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        // Whoever names it as one of the connection's must not make the next proxy see another host or body.
        .filter(|name| ![header::HOST, header::CONTENT_LENGTH, header::TE].contains(name))
        .collect();
    named.iter().for_each(|name| drop(headers.remove(name)));
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(name)));
}

/// Removes what is never believed of a client. Hardly any request has one of them, and looking at the few names that one has is cheaper than
/// looking for each that it could have.
fn remove_internal(headers: &mut HeaderMap) {
    let may_be = |name: &HeaderName| name.as_str().starts_with("x-envoy-") || *name == INTERNAL[0];
    if headers.keys().any(may_be) {
        INTERNAL.iter().for_each(|name| drop(headers.remove(name)));
    }
}

/// HTTP/2 may split cookies, HTTP/1 and matches know one line (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let parts: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    // Parts of valid values make a valid one.
    if let Ok(joined) = HeaderValue::from_bytes(&parts.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// An address as a header has it. Made once for a connection: all its requests have the same.
pub fn address(client: IpAddr) -> HeaderValue {
    HeaderValue::try_from(client.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn append_address(headers: &mut HeaderMap, client: &HeaderValue) {
    if !headers.contains_key(FORWARDED_FOR) {
        headers.insert(FORWARDED_FOR, client.clone());
        return;
    }
    let mut value = Vec::new();
    for before in headers.get_all(FORWARDED_FOR) {
        value.extend_from_slice(before.as_bytes());
        value.push(b',');
    }
    value.extend_from_slice(client.as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&value) {
        headers.insert(FORWARDED_FOR, value);
    }
}

/// A version 4 UUID (RFC 9562): unique, not secret.
fn request_id() -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let id = (fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let mut text = [b'-'; 36];
    let mut left = id;
    for at in (0..text.len()).rev() {
        if ![8, 13, 18, 23].contains(&at) {
            text[at] = DIGITS[(left & 0xf) as usize];
            left >>= 4;
        }
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests;
