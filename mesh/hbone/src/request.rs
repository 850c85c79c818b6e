//! What a `CONNECT` says: where to, for whom.
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use culvert_h2core::{BadHeaders, Request};

/// Where a stream goes: `:authority` of a `CONNECT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Authority {
    /// `ip:port` or `[ip]:port`.
    Address(SocketAddr),
    /// `hostname:port`, to a waypoint or gateway. Lower case, letters, digits, `-`, `_` and `.`, at most 253 bytes.
    Name {
        /// Without the port.
        host: Box<str>,
        /// 1 to 65535.
        port: u16,
    },
}

/// An `:authority` that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadAuthority {
    /// There is no `:port`, or it is not 1 to 65535.
    #[error("authority has no valid port")]
    Port,
    /// What precedes the port is neither an address nor a host name.
    #[error("authority has no valid host")]
    Host,
}

impl FromStr for Authority {
    type Err = BadAuthority;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or(BadAuthority::Port)?;
        // `u16::from_str` takes a leading `+`.
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadAuthority::Port);
        }
        let port = port.parse().ok().filter(|&port| port != 0).ok_or(BadAuthority::Port)?;
        if let Some(v6) = host.strip_prefix('[') {
            let address = v6
                .strip_suffix(']')
                .and_then(|v6| v6.parse().ok())
                .ok_or(BadAuthority::Host)?;
            return Ok(Self::Address(SocketAddr::new(IpAddr::V6(address), port)));
        }
        if let Ok(address) = host.parse() {
            return Ok(Self::Address(SocketAddr::new(IpAddr::V4(address), port)));
        }
        let valid = !host.is_empty()
            && host.len() <= 253
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
            // What ends in a number is a mistyped address, not a name (RFC 1123 section 2.1; WHATWG URL "ends in a number").
            && host.trim_end_matches('.').rsplit('.').next().is_some_and(|last| !last.bytes().all(|byte| byte.is_ascii_digit()));
        if !valid {
            return Err(BadAuthority::Host);
        }
        Ok(Self::Name {
            host: host.to_ascii_lowercase().into(),
            port,
        })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl From<SocketAddr> for Authority {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

/// A request for a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Where to.
    pub authority: Authority,
    /// Regular headers in order, names in lower case: `baggage`, `forwarded`, `traceparent`, others.
    pub headers: Vec<(String, String)>,
}

impl ConnectRequest {
    /// Reads a request as the `CONNECT` that it must be (RFC 9113 section 8.5).
    pub(crate) fn new(request: Result<Request, BadHeaders>) -> Result<Self, BadRequest> {
        let request = request?;
        if request.method != "CONNECT" {
            // RFC 9113 section 8.3.1: without these it is no request at all.
            return Err(match (&request.scheme, request.path.as_deref()) {
                (Some(_), Some(path)) if !path.is_empty() => BadRequest::Method,
                _ => BadRequest::Headers("no :scheme or no :path"),
            });
        }
        if request.scheme.is_some() || request.path.is_some() || request.protocol.is_some() {
            return Err(BadRequest::Headers("pseudo-header that CONNECT must not have"));
        }
        let authority = request.authority.ok_or(BadRequest::Headers("no :authority"))?;
        Ok(Self {
            authority: authority.parse().map_err(BadRequest::Authority)?,
            headers: request.headers,
        })
    }

    /// The first value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// A request that cannot be served, though the connection is sound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRequest {
    /// A method other than CONNECT.
    #[error("method is not CONNECT")]
    Method,
    /// `:authority` is missing or cannot be used.
    #[error("{0}")]
    Authority(BadAuthority),
    /// Headers break a rule of RFC 9113 section 8.
    #[error("malformed headers: {0}")]
    Headers(&'static str),
    /// More headers than [`Config::max_header_list`](crate::Config::max_header_list).
    #[error("headers too large")]
    TooLarge,
}

impl From<BadHeaders> for BadRequest {
    fn from(error: BadHeaders) -> Self {
        match error {
            BadHeaders::Malformed(reason) => Self::Headers(reason),
            BadHeaders::TooLarge => Self::TooLarge,
            _ => Self::Headers("not understood"),
        }
    }
}

impl BadRequest {
    /// Whether it is no request as HTTP/2 knows it: its stream is reset behind the answer (RFC 9113 section 8.1.1).
    pub fn is_malformed(&self) -> bool {
        matches!(self, Self::Headers(_))
    }

    /// The status to answer with.
    pub fn status(&self) -> u16 {
        match self {
            Self::Method => 405,
            Self::Authority(_) | Self::Headers(_) => 400,
            Self::TooLarge => 431,
        }
    }
}
