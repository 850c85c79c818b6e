//! Session persistence: the filter `envoy.filters.http.stateful_session`. The endpoint that served a client is written into a cookie or a
//! field of the answer, as Envoy writes it, and serves the next request that has it.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use culvert_envoy::pb::envoy::config::core::v3::TypedExtensionConfig;
use culvert_envoy::pb::envoy::extensions::filters::http::stateful_session::v3::{
    StatefulSession, StatefulSessionPerRoute, stateful_session_per_route::Override as PerRoute,
};
use culvert_envoy::pb::envoy::extensions::http::stateful_session::cookie::v3::CookieBasedSessionState;
use culvert_envoy::pb::envoy::extensions::http::stateful_session::header::v3::HeaderBasedSessionState;
use culvert_envoy::pb::envoy::r#type::http::v3::{Cookie as CookieMessage, CookieAttribute};
use culvert_envoy::{type_url, unpack};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use prost::Message as _;

use crate::error::{CompileError, Within as _, is_set, take};
use crate::request::cookie;
use crate::value::optional_duration;

/// How a client is led to the endpoint that it had before.
#[derive(Debug)]
pub struct Session {
    by: By,
    strict: bool,
}

#[derive(Debug)]
enum By {
    Cookie(Cookie),
    Header(HeaderName),
}

#[derive(Debug)]
struct Cookie {
    name: String,
    path: String,
    /// None lasts as long as the client wants.
    ttl: Option<Duration>,
    attributes: String,
}

/// What a cookie says: Envoy's message `envoy.Cookie`.
#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(string, tag = "1")]
    address: String,
    /// Seconds since 1970; 0 for never.
    #[prost(int64, tag = "2")]
    expires: i64,
}

impl Session {
    /// Reads what a route says; none where it turns sessions off.
    ///
    /// # Errors
    /// Where it is not valid, or has something set that is not served.
    pub fn compile(message: &StatefulSessionPerRoute) -> Result<Option<Self>, CompileError> {
        match &message.r#override {
            Some(PerRoute::StatefulSession(session)) => Self::of(session).within(|| "stateful_session".into()),
            Some(PerRoute::Disabled(true)) => Ok(None),
            Some(PerRoute::Disabled(false)) | None => Err(CompileError::missing("override")),
        }
    }

    /// Reads the filter itself; none where it does nothing by itself.
    ///
    /// # Errors
    /// As above.
    pub fn of(message: &StatefulSession) -> Result<Option<Self>, CompileError> {
        take!(message => StatefulSession { session_state, strict, stat_prefix } unserved { status_on_strict_destination_not_found });
        let _ = stat_prefix;
        let Some(state) = session_state else {
            return Ok(None);
        };
        Ok(Some(Self {
            by: By::compile(state).within(|| "session_state".into())?,
            strict: *strict,
        }))
    }

    /// The endpoint that a request asks for, if it does and in time.
    pub fn endpoint(&self, request: &Parts, now: SystemTime) -> Option<SocketAddr> {
        match &self.by {
            By::Header(name) => {
                let decoded = STANDARD.decode(request.headers.get(name)?.as_bytes()).ok()?;
                address(std::str::from_utf8(&decoded).ok()?)
            }
            By::Cookie(own) => {
                if !own.is_for(request.uri.path()) {
                    return None;
                }
                let decoded = STANDARD.decode(cookie(request, &own.name)?).ok()?;
                // Envoy takes the bare address, too.
                if let Some(bare) = std::str::from_utf8(&decoded).ok().and_then(address) {
                    return Some(bare);
                }
                let stored = Stored::decode(&*decoded).ok()?;
                let is_late = stored.expires != 0 && stored.expires <= seconds(now);
                address(&stored.address).filter(|_| !is_late)
            }
        }
    }

    /// Whether a request fails (503 `UH`) that asks for an endpoint that there is no longer, rather than going to another.
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// Writes into an answer which endpoint the client is to ask for from now on. Only where it was not the one that it asked for, as
    /// Envoy does. `request` is the path that the client asked for.
    pub fn mark(&self, endpoint: SocketAddr, request: &Parts, now: SystemTime, response: &mut HeaderMap) {
        match &self.by {
            By::Header(name) => {
                if let Ok(value) = HeaderValue::try_from(STANDARD.encode(endpoint.to_string())) {
                    response.insert(name, value);
                }
            }
            By::Cookie(cookie) if cookie.is_for(request.uri.path()) => {
                let stored = Stored {
                    address: endpoint.to_string(),
                    expires: cookie.ttl.map_or(0, |ttl| {
                        seconds(now).saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX))
                    }),
                };
                let value = STANDARD.encode(stored.encode_to_vec());
                let age = cookie
                    .ttl
                    .map_or_else(String::new, |ttl| format!("; Max-Age={}", ttl.as_secs()));
                let path = match cookie.path.as_str() {
                    "" => String::new(),
                    path => format!("; Path={path}"),
                };
                let text = format!("{}=\"{value}\"{age}{path}{}; HttpOnly", cookie.name, cookie.attributes);
                if let Ok(value) = HeaderValue::try_from(text) {
                    response.append(header::SET_COOKIE, value);
                }
            }
            By::Cookie(_) => {}
        }
    }
}

impl By {
    fn compile(state: &TypedExtensionConfig) -> Result<Self, CompileError> {
        let any = state
            .typed_config
            .as_ref()
            .ok_or_else(|| CompileError::missing("typed_config"))?;
        let malformed = |error| CompileError::new("typed_config", error);
        if any.type_url == type_url::<CookieBasedSessionState>() {
            let message: CookieBasedSessionState = unpack(any).map_err(malformed)?;
            let cookie = message.cookie.as_ref().ok_or_else(|| CompileError::missing("cookie"))?;
            return Cookie::compile(cookie).within(|| "cookie".into()).map(Self::Cookie);
        }
        if any.type_url == type_url::<HeaderBasedSessionState>() {
            let message: HeaderBasedSessionState = unpack(any).map_err(malformed)?;
            let name = HeaderName::from_bytes(message.name.as_bytes());
            return name.map(Self::Header).map_err(|_| {
                CompileError::invalid("name", format_args!("{:?} is no header field's name", message.name))
            });
        }
        let url = &any.type_url;
        Err(CompileError::invalid(
            "typed_config",
            format_args!("{url:?} is not served"),
        ))
    }
}

impl Cookie {
    fn compile(message: &CookieMessage) -> Result<Self, CompileError> {
        take!(message => CookieMessage { name, ttl, path, attributes } unserved {});
        if !is_set(name) {
            return Err(CompileError::missing("name"));
        }
        let attribute = |attribute: &CookieAttribute| match attribute.value.as_str() {
            "" => format!("; {}", attribute.name),
            value => format!("; {}={value}", attribute.name),
        };
        Ok(Self {
            name: name.clone(),
            path: path.clone(),
            ttl: optional_duration("ttl", ttl)?.filter(|ttl| !ttl.is_zero()),
            attributes: attributes.iter().map(attribute).collect(),
        })
    }

    /// Whether a client sends the cookie to this path (RFC 6265 section 5.1.4).
    fn is_for(&self, path: &str) -> bool {
        let own = self.path.as_str();
        match path.strip_prefix(own) {
            _ if own.is_empty() || own == "/" => true,
            Some(rest) => rest.is_empty() || rest.starts_with('/') || own.ends_with('/'),
            None => false,
        }
    }
}

/// `ADDRESS:PORT`, or Envoy's `envoy://LISTENER/ADDRESS:PORT` of an endpoint in the tunnel.
fn address(text: &str) -> Option<SocketAddr> {
    let bare = match text.strip_prefix("envoy://") {
        Some(internal) => internal.rsplit_once('/')?.1,
        None => text,
    };
    bare.parse().ok()
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use culvert_envoy::pack;
    use culvert_envoy::pb::google::protobuf;

    use super::*;
    use crate::testing::request;

    const NOW: SystemTime = UNIX_EPOCH;

    fn session(state: protobuf::Any) -> Session {
        let message = StatefulSession {
            session_state: Some(TypedExtensionConfig {
                name: "state".to_owned(),
                typed_config: Some(state),
            }),
            ..StatefulSession::default()
        };
        Session::of(&message).unwrap().unwrap()
    }

    fn by_cookie(seconds: i64, path: &str) -> Session {
        session(pack(&CookieBasedSessionState {
            cookie: Some(CookieMessage {
                name: "who".to_owned(),
                ttl: Some(protobuf::Duration { seconds, nanos: 0 }),
                path: path.to_owned(),
                ..CookieMessage::default()
            }),
        }))
    }

    fn asked(session: &Session, path: &str, name: &'static str, value: &str, later: u64) -> Option<SocketAddr> {
        session.endpoint(
            &request("GET", path, &[(name, value)]),
            NOW + Duration::from_secs(later),
        )
    }

    #[test]
    fn a_cookie_leads_back_until_its_time_is_over() {
        let endpoint: SocketAddr = "[fd00::1]:80".parse().unwrap();
        let (session, mut answer) = (by_cookie(60, "/a"), HeaderMap::new());
        session.mark(endpoint, &request("GET", "/a/b", &[]), NOW, &mut answer);
        let set = answer[header::SET_COOKIE].to_str().unwrap();
        assert!(set.ends_with("; Max-Age=60; Path=/a; HttpOnly"), "{set}");
        let pair = set.split(';').next().unwrap();
        let at = |path, later| asked(&session, path, "cookie", pair, later);
        assert_eq!(
            (at("/a/b", 59), at("/a/b", 60), at("/ab", 0)),
            (Some(endpoint), None, None)
        );
    }

    #[test]
    fn what_envoy_writes_is_read_and_garbage_is_nobody() {
        let session = by_cookie(0, "/");
        let address = "198.18.0.7:8080".parse().ok();
        let stored = Stored {
            address: "envoy://town/wp/connect/198.18.0.7:8080".to_owned(),
            expires: 0,
        };
        let cookie = |bytes: &[u8]| asked(&session, "/", "cookie", &format!("who={}", STANDARD.encode(bytes)), 0);
        assert_eq!(
            (cookie(&stored.encode_to_vec()), cookie(b"198.18.0.7:8080")),
            (address, address)
        );
        assert_eq!((cookie(b"198.18.0.7"), cookie(&[255; 9])), (None, None));
        assert_eq!(asked(&session, "/", "cookie", "who=!", 0), None);
    }

    #[test]
    fn a_header_is_the_address_in_base64() {
        let session = session(pack(&HeaderBasedSessionState {
            name: "x-who".to_owned(),
        }));
        let mut answer = HeaderMap::new();
        session.mark(
            "198.18.0.7:80".parse().unwrap(),
            &request("GET", "/", &[]),
            NOW,
            &mut answer,
        );
        assert_eq!(answer["x-who"], "MTk4LjE4LjAuNzo4MA==");
        assert_eq!(
            asked(&session, "/", "x-who", "MTk4LjE4LjAuNzo4MA==", 0),
            "198.18.0.7:80".parse().ok()
        );
    }
}
