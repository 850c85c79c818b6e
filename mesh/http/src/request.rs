//! What of a request is looked at: the parts of `http`, with Envoy's names for those that are no header fields.

use std::borrow::Cow;
use std::net::SocketAddr;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, uri};

/// Who sent a request, as the tunnel knows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer<'a> {
    /// The SPIFFE ID that opened the tunnel: [`PEER_PRINCIPAL`](culvert_envoy::PEER_PRINCIPAL). `None` for a peer in clear.
    pub principal: Option<&'a str>,
    /// The address that the connection comes from.
    pub address: Option<SocketAddr>,
    /// What the client asked for in `CONNECT`: the destination.
    pub destination: Option<SocketAddr>,
}

/// The host that a request is for, with its port if it names one: the target's authority, else the field `host`. Empty without either.
pub fn host(request: &Parts) -> &str {
    match request.uri.authority() {
        Some(authority) => authority.as_str(),
        None => request
            .headers
            .get(header::HOST)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default(),
    }
}

/// The value of a cookie, without quotes.
pub(crate) fn cookie<'a>(request: &'a Parts, name: &str) -> Option<&'a [u8]> {
    let lines = request.headers.get_all(header::COOKIE).iter();
    let mut pairs = lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii);
    let value = pairs.find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    Some(
        value
            .strip_prefix(b"\"")
            .and_then(|value| value.strip_suffix(b"\""))
            .unwrap_or(value),
    )
}

/// Sets the host that a request is for, in the target where it has an authority, and in the field `host`. A value that is none is not set.
pub(crate) fn set_host(request: &mut Parts, host: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(host) else {
        return;
    };
    if request.uri.authority().is_some() {
        let mut parts = std::mem::take(&mut request.uri).into_parts();
        if let Ok(authority) = uri::Authority::try_from(host) {
            parts.authority = Some(authority);
        }
        request.uri = Uri::from_parts(parts).unwrap_or_default();
    }
    request.headers.insert(header::HOST, value);
}

/// The path with the query: Envoy's `:path`.
pub fn path_and_query(request: &Parts) -> &str {
    request.uri.path_and_query().map_or("", uri::PathAndQuery::as_str)
}

/// Sets the path with the query. Returns whether it is one that a request can have; else nothing is changed.
pub(crate) fn set_path_and_query(request: &mut Parts, path: &[u8]) -> bool {
    let Ok(path) = uri::PathAndQuery::try_from(path) else {
        return false;
    };
    let mut parts = request.uri.clone().into_parts();
    parts.path_and_query = Some(path);
    match Uri::from_parts(parts) {
        Ok(uri) => {
            request.uri = uri;
            true
        }
        Err(_) => false,
    }
}

/// The scheme: the target's, else what `x-forwarded-proto` says, else `http`.
pub fn scheme(request: &Parts) -> &str {
    request.uri.scheme_str().unwrap_or_else(|| {
        request
            .headers
            .get("x-forwarded-proto")
            .and_then(|value| value.to_str().ok())
            .unwrap_or("http")
    })
}

/// Whether the request is gRPC: its content type is `application/grpc`, or that with `+` and a format.
pub fn is_grpc(request: &Parts) -> bool {
    let Some(kind) = request.headers.get(header::CONTENT_TYPE) else {
        return false;
    };
    match kind.as_bytes().strip_prefix(b"application/grpc") {
        Some(rest) => rest.is_empty() || rest.starts_with(b"+"),
        None => false,
    }
}

/// The name of something in a request: a header field, or one of the four that Envoy gives a name with a colon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FieldName {
    Method,
    Path,
    Authority,
    Scheme,
    Header(HeaderName),
}

impl FieldName {
    /// Reads a name; none where it cannot be a header field's.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            ":method" => Self::Method,
            ":path" => Self::Path,
            ":authority" | "host" => Self::Authority,
            ":scheme" => Self::Scheme,
            other => Self::Header(HeaderName::from_bytes(other.as_bytes()).ok()?),
        })
    }

    /// The values in a request, each line by itself but for those fields that Envoy keeps as one.
    pub(crate) fn values<'a>(&self, request: &'a Parts) -> Values<'a> {
        let one = |text: &'a str| Values::One(Some(Cow::Borrowed(text.as_bytes())));
        match self {
            Self::Method => one(request.method.as_str()),
            Self::Path if request.uri.path_and_query().is_none() => Values::One(None),
            Self::Path => one(path_and_query(request)),
            Self::Authority => {
                Values::One(Some(Cow::Borrowed(host(request).as_bytes())).filter(|host| !host.is_empty()))
            }
            Self::Scheme => one(scheme(request)),
            Self::Header(_) => self.fields(&request.headers),
        }
    }

    /// The values among header fields alone.
    pub(crate) fn fields<'a>(&self, headers: &'a HeaderMap) -> Values<'a> {
        let Self::Header(name) = self else {
            return Values::One(None);
        };
        let mut lines = headers.get_all(name).iter();
        let (Some(first), second) = (lines.next(), lines.next()) else {
            return Values::One(None);
        };
        match second {
            Some(second) if JOINED.contains(&name.as_str()) => {
                let mut all = first.as_bytes().to_vec();
                let between: &[u8] = if name == header::COOKIE { b"; " } else { b"," };
                for line in std::iter::once(second).chain(lines) {
                    all.extend_from_slice(between);
                    all.extend_from_slice(line.as_bytes());
                }
                Values::One(Some(Cow::Owned(all)))
            }
            Some(_) => Values::Lines(headers.get_all(name).iter()),
            None => Values::One(Some(Cow::Borrowed(first.as_bytes()))),
        }
    }

    /// The first value in a request.
    pub(crate) fn first<'a>(&self, request: &'a Parts) -> Option<Cow<'a, [u8]>> {
        self.values(request).next()
    }
}

/// Values of one field.
pub(crate) enum Values<'a> {
    One(Option<Cow<'a, [u8]>>),
    Lines(header::ValueIter<'a, HeaderValue>),
}

impl<'a> Iterator for Values<'a> {
    type Item = Cow<'a, [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::One(value) => value.take(),
            Self::Lines(lines) => lines.next().map(|value| Cow::Borrowed(value.as_bytes())),
        }
    }
}

/// Fields that Envoy has a fixed slot for, and so joins to one line before anything looks at them.
const JOINED: [&str; 38] = [
    "accept",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "authorization",
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "grpc-accept-encoding",
    "grpc-timeout",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "origin",
    "pragma",
    "proxy-connection",
    "referer",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-client-trace-id",
    "x-envoy-attempt-count",
    "x-envoy-external-address",
    "x-envoy-original-path",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-request-id",
];
