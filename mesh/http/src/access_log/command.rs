//! Envoy's command operators: the table of those that are served, and what each stands for.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Version};
use serde_json::{Number, Value};

use super::facts::Facts;
use super::flags;
use crate::error::CompileError;
use crate::request::FieldName;

type Read = for<'a> fn(&Facts<'a>) -> Option<Found<'a>>;

/// A value of a command.
pub(super) enum Found<'a> {
    Text(Cow<'a, str>),
    Number(u64),
}

/// Those without anything in brackets.
const PLAIN: [(&str, Read); 37] = [
    ("START_TIME", |facts| {
        owned(humantime::format_rfc3339_millis(facts.begun).to_string())
    }),
    ("PROTOCOL", |facts| {
        facts.version.map(|version| Found::Text(protocol(version).into()))
    }),
    // 0 of a connection, too.
    ("RESPONSE_CODE", |facts| Some(Found::Number(facts.status.into()))),
    ("RESPONSE_FLAGS", |facts| list(facts.flags.iter().copied())),
    ("RESPONSE_FLAGS_LONG", |facts| {
        list(facts.flags.iter().map(|flag| flags::long(flag)))
    }),
    ("RESPONSE_CODE_DETAILS", |facts| {
        facts.heads.and_then(|_| details(facts.details))
    }),
    ("CONNECTION_TERMINATION_DETAILS", |facts| match facts.heads {
        None => details(facts.details),
        Some(_) => None,
    }),
    ("UPSTREAM_TRANSPORT_FAILURE_REASON", |facts| {
        text(facts.upstream_failure)
    }),
    ("DOWNSTREAM_TRANSPORT_FAILURE_REASON", |_| None),
    ("BYTES_RECEIVED", |facts| Some(Found::Number(facts.received))),
    ("BYTES_SENT", |facts| Some(Found::Number(facts.sent))),
    ("DURATION", |facts| Some(millis(facts.took))),
    ("REQUEST_DURATION", |facts| facts.request_took.map(millis)),
    ("RESPONSE_DURATION", |facts| facts.response_took.map(millis)),
    ("RESPONSE_TX_DURATION", |facts| {
        facts
            .response_took
            .map(|until| millis(facts.took.saturating_sub(until)))
    }),
    ("UPSTREAM_HOST", |facts| facts.upstream.and_then(shown)),
    ("UPSTREAM_REMOTE_ADDRESS", |facts| facts.upstream.and_then(shown)),
    ("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", |facts| {
        facts.upstream.and_then(|address| shown(address.ip()))
    }),
    ("UPSTREAM_REMOTE_PORT", |facts| {
        facts.upstream.map(|address| Found::Number(address.port().into()))
    }),
    ("UPSTREAM_LOCAL_ADDRESS", |_| None),
    ("UPSTREAM_CLUSTER", |facts| text(facts.cluster)),
    ("UPSTREAM_CLUSTER_RAW", |facts| text(facts.cluster)),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", |facts| {
        Some(Found::Number(facts.attempts.into()))
    }),
    ("DOWNSTREAM_LOCAL_ADDRESS", |facts| shown(facts.destination)),
    ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", |facts| {
        shown(facts.destination.ip())
    }),
    ("DOWNSTREAM_LOCAL_PORT", |facts| {
        Some(Found::Number(facts.destination.port().into()))
    }),
    ("DOWNSTREAM_REMOTE_ADDRESS", |facts| shown(facts.client)),
    ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", |facts| {
        shown(facts.client.ip())
    }),
    ("DOWNSTREAM_REMOTE_PORT", |facts| {
        Some(Found::Number(facts.client.port().into()))
    }),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", |facts| shown(facts.client)),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", |facts| {
        shown(facts.client.ip())
    }),
    // Names of servers are in TLS, of which there is none inside the tunnel.
    ("REQUESTED_SERVER_NAME", |_| None),
    ("ROUTE_NAME", |facts| text(facts.route)),
    ("TRACE_ID", |facts| match facts.trace.as_str() {
        "" => None,
        trace => owned(trace.to_owned()),
    }),
    ("HOSTNAME", |facts| text(facts.hostname)),
    ("GRPC_STATUS_NUMBER", |facts| {
        grpc(facts).map(|status| Found::Number(status.into()))
    }),
    ("METHOD", |facts| {
        facts
            .heads
            .map(|heads| Found::Text(heads.request.method.as_str().into()))
    }),
];

/// What is between two percent signs.
#[derive(Clone)]
pub(super) struct Command {
    what: What,
    /// Longest text, in bytes.
    most: Option<usize>,
}

#[derive(Clone)]
enum What {
    Plain(Read),
    Request(FieldName, Option<FieldName>),
    Response(HeaderName, Option<HeaderName>),
    Trailer(HeaderName, Option<HeaderName>),
    Principal,
    /// What access policies left under a key.
    Remark(String),
    GrpcStatus(Case),
    Always(String),
}

#[derive(Clone, Copy)]
enum Case {
    Camel,
    Snake,
    Number,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Command")
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

impl Command {
    /// Reads one, without its percent signs.
    pub(super) fn compile(text: &str) -> Result<Self, CompileError> {
        let unknown = || CompileError::invalid("format", format_args!("%{text}% is not an operator that is served"));
        let (name, argument, most) = match text.split_once('(') {
            None => match text.split_once(':') {
                None => (text, None, ""),
                Some((name, most)) => (name, None, most),
            },
            Some((name, rest)) => {
                let (argument, rest) = rest.rsplit_once(')').ok_or_else(unknown)?;
                let most = if rest.is_empty() {
                    rest
                } else {
                    rest.strip_prefix(':').ok_or_else(unknown)?
                };
                (name, Some(argument), most)
            }
        };
        let most = match most {
            "" => None,
            digits => Some(digits.parse().map_err(|_| unknown())?),
        };
        let what = Self::what(name, argument).ok_or_else(unknown)?;
        Ok(Self { what, most })
    }

    fn what(name: &str, argument: Option<&str>) -> Option<What> {
        let Some(argument) = argument else {
            if name == "GRPC_STATUS" {
                return Some(What::GrpcStatus(Case::Camel));
            }
            let known = PLAIN.iter().find(|(known, _)| *known == name);
            return known.map(|(_, read)| What::Plain(*read));
        };
        let (first, second) = match argument.split_once('?') {
            None => (argument, None),
            Some((first, second)) => (first, Some(second)),
        };
        let field = |name: &str| HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).ok();
        let fields = || {
            let second = match second {
                None => None,
                Some(name) => Some(field(name)?),
            };
            Some((field(first)?, second))
        };
        Some(match name {
            "REQ" => {
                let second = match second {
                    None => None,
                    Some(name) => Some(FieldName::parse(name)?),
                };
                What::Request(FieldName::parse(first)?, second)
            }
            "RESP" => fields().map(|(first, second)| What::Response(first, second))?,
            "TRAILER" => fields().map(|(first, second)| What::Trailer(first, second))?,
            "DYNAMIC_METADATA" => {
                let key = argument.strip_prefix(culvert_envoy::RBAC_METADATA)?.strip_prefix(':')?;
                What::Remark(key.to_owned())
            }
            "FILTER_STATE" if argument == "io.istio.peer_principal:PLAIN" => What::Principal,
            "GRPC_STATUS" => What::GrpcStatus(match argument {
                "CAMEL_STRING" => Case::Camel,
                "SNAKE_STRING" => Case::Snake,
                "NUMBER" => Case::Number,
                _ => return None,
            }),
            "ENVIRONMENT" => What::Always(std::env::var(argument).unwrap_or_default()),
            _ => return None,
        })
    }

    fn found<'a>(&'a self, facts: &Facts<'a>) -> Option<Found<'a>> {
        match &self.what {
            What::Plain(read) => read(facts),
            What::Request(first, second) => {
                let request = facts.heads?.request;
                let value = first.first(request);
                let value = value.or_else(|| second.as_ref().and_then(|second| second.first(request)))?;
                Some(Found::Text(match value {
                    Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
                    Cow::Owned(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
                }))
            }
            What::Response(first, second) => of_fields(facts.heads?.response, first, second.as_ref()),
            What::Trailer(first, second) => of_fields(facts.trailers?, first, second.as_ref()),
            What::Principal => text(facts.principal),
            What::Remark(key) => text(facts.remarks?.get(key)?),
            What::GrpcStatus(case) => {
                let status = grpc(facts)?;
                Some(match case {
                    Case::Number => Found::Number(status.into()),
                    Case::Camel => Found::Text(camel(status).map_or_else(|| status.to_string().into(), Into::into)),
                    Case::Snake => Found::Text(camel(status).map_or_else(|| status.to_string(), snake).into()),
                })
            }
            What::Always(value) => text(value),
        }
    }

    /// As text; `-`, or `absent`, for what is not known.
    pub(super) fn add(&self, facts: &Facts<'_>, absent: &str, out: &mut String) {
        match self.found(facts) {
            None => out.push_str(absent),
            Some(Found::Number(number)) => out.push_str(&number.to_string()),
            Some(Found::Text(text)) => out.push_str(self.cut(&text)),
        }
    }

    /// As JSON, typed.
    pub(super) fn json(&self, facts: &Facts<'_>) -> Value {
        match self.found(facts) {
            None => Value::Null,
            Some(Found::Number(number)) => Value::Number(Number::from(number)),
            Some(Found::Text(text)) => Value::String(self.cut(&text).to_owned()),
        }
    }

    fn cut<'a>(&self, text: &'a str) -> &'a str {
        let mut end = self.most.unwrap_or(text.len()).min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        &text[..end]
    }
}

pub(super) fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

fn text(text: &str) -> Option<Found<'_>> {
    (!text.is_empty()).then_some(Found::Text(Cow::Borrowed(text)))
}

fn owned<'a>(text: String) -> Option<Found<'a>> {
    Some(Found::Text(Cow::Owned(text)))
}

fn shown<'a>(value: impl std::fmt::Display) -> Option<Found<'a>> {
    owned(value.to_string())
}

fn millis<'a>(time: Duration) -> Found<'a> {
    Found::Number(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn list<'a>(flags: impl Iterator<Item = &'static str>) -> Option<Found<'a>> {
    let flags: Vec<&str> = flags.collect();
    // Also in JSON: a request without a flag has `-`.
    owned(if flags.is_empty() {
        "-".to_owned()
    } else {
        flags.join(",")
    })
}

/// White space makes no second word.
fn details<'a>(text: &str) -> Option<Found<'a>> {
    (!text.is_empty()).then(|| Found::Text(Cow::Owned(text.replace(char::is_whitespace, "_"))))
}

fn of_fields<'a>(fields: &'a HeaderMap, first: &HeaderName, second: Option<&HeaderName>) -> Option<Found<'a>> {
    let value = fields.get(first).or_else(|| fields.get(second?))?;
    Some(Found::Text(String::from_utf8_lossy(value.as_bytes())))
}

fn grpc(facts: &Facts<'_>) -> Option<u32> {
    facts.grpc_status.filter(|_| facts.is_grpc)
}

const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

fn camel(status: u32) -> Option<&'static str> {
    CODES.get(usize::try_from(status).ok()?).copied()
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    let mut was_lower = false;
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && was_lower {
            out.push('_');
        }
        was_lower = letter.is_ascii_lowercase();
        out.push(letter.to_ascii_uppercase());
    }
    out
}
