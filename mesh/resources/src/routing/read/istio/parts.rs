//! What a rule of a VirtualService does with requests: faults, retries, CORS, headers.

use std::time::Duration;

use serde::Deserialize;

use super::super::super::model::{Abort, Cors, Fault, Headers, Origin, Retry, Text};
use super::super::values::{self, Bad, list};
use super::values::{Map, Percent, StringMatch, optional, positive};

const WHOLE: u32 = 1_000_000;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeadersSpec {
    #[serde(default)]
    pub(super) request: ChangesSpec,
    #[serde(default)]
    pub(super) response: ChangesSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangesSpec {
    #[serde(default)]
    set: Map,
    #[serde(default)]
    add: Map,
    #[serde(default, deserialize_with = "list")]
    remove: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultSpec {
    delay: Option<DelaySpec>,
    abort: Option<AbortSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DelaySpec {
    percent: Option<f64>,
    percentage: Option<Percent>,
    fixed_delay: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AbortSpec {
    percentage: Option<Percent>,
    http_status: Option<u16>,
    grpc_status: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RetriesSpec {
    #[serde(default)]
    attempts: u32,
    per_try_timeout: Option<String>,
    retry_on: Option<String>,
    retry_remote_localities: Option<bool>,
    retry_ignore_previous_hosts: Option<bool>,
    backoff: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CorsSpec {
    #[serde(default, deserialize_with = "list")]
    allow_origin: Vec<String>,
    #[serde(default, deserialize_with = "list")]
    allow_origins: Vec<StringMatch>,
    #[serde(default, deserialize_with = "list")]
    allow_methods: Vec<String>,
    #[serde(default, deserialize_with = "list")]
    allow_headers: Vec<String>,
    #[serde(default, deserialize_with = "list")]
    expose_headers: Vec<String>,
    max_age: Option<String>,
    allow_credentials: Option<bool>,
    #[serde(default)]
    unmatched_preflights: Preflights,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Preflights {
    #[default]
    Unspecified,
    Forward,
    Ignore,
}

impl ChangesSpec {
    /// What is changed, and the host if that is set as if it were a header.
    pub(super) fn changes(&self) -> Result<(Headers, Option<String>), Bad> {
        let is_host = |name: &str| name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority");
        let mut host = None;
        let mut set = Vec::new();
        for (name, value) in &self.set {
            let value = header_value(value).map_err(|message| Bad::at(format!("set[{name}]"), message))?;
            if is_host(name) {
                host = Some(value);
                continue;
            }
            let name = values::header_name(name).map_err(|message| Bad::at("set", message))?;
            set.push((name, value));
        }
        let add = self.add.iter().map(|(name, value)| {
            let at = format!("add[{name}]");
            let name = values::header_name(name).map_err(|message| Bad::at(at.as_str(), message))?;
            let value = header_value(value).map_err(|message| Bad::at(at.as_str(), message))?;
            match is_host(&name) {
                true => Err(Bad::at(at, "a request has one host")),
                false => Ok((name, value)),
            }
        });
        let remove = self.remove.iter().enumerate().map(|(index, name)| {
            let at = format!("remove[{index}]");
            match is_host(name) {
                true => Err(Bad::at(at, "a request has a host")),
                false => values::header_name(name).map_err(|message| Bad::at(at, message)),
            }
        });
        let headers = Headers {
            set,
            add: add.collect::<Result<_, Bad>>()?,
            remove: remove.collect::<Result<_, Bad>>()?,
        };
        Ok((headers, host))
    }
}

/// A value without Envoy's commands, which stand for what only Envoy knows.
fn header_value(value: &str) -> Result<String, String> {
    let mut parts = value.split('%').skip(1);
    let is_command = |part: &str| part.starts_with(|c: char| c.is_ascii_uppercase());
    if value.matches('%').count() > 1 && parts.any(is_command) {
        return Err(format!("{value:?} has a command of Envoy, which is not served"));
    }
    values::header_value(value)
}

impl FaultSpec {
    pub(super) fn fault(&self) -> Result<Fault, Bad> {
        let share = |percentage: Option<Percent>, field: &str| {
            percentage
                .map_or(Ok(WHOLE), Percent::share)
                .map_err(|bad| bad.below(field))
        };
        let delay = self.delay.as_ref().map(|spec| {
            let time = positive(spec.fixed_delay.as_ref(), "delay.fixedDelay")?;
            let time = time.ok_or_else(|| Bad::at("delay.fixedDelay", "is missing"))?;
            let percent = spec.percentage.or(spec.percent.map(Percent::of));
            Ok::<_, Bad>((time, share(percent, "delay.percentage")?))
        });
        let abort = self.abort.as_ref().map(|spec| {
            let abort = match (spec.http_status, &spec.grpc_status) {
                (Some(status), None) if (200..600).contains(&status) => Abort::Http(status),
                (Some(status), None) => {
                    return Err(Bad::at("abort.httpStatus", format!("{status} is not from 200 to 599")));
                }
                (None, Some(status)) => Abort::Grpc(grpc_status(status)?),
                _ => return Err(Bad::at("abort", "it must have one of httpStatus and grpcStatus")),
            };
            Ok((abort, share(spec.percentage, "abort.percentage")?))
        });
        Ok(Fault {
            delay: delay.transpose()?,
            abort: abort.transpose()?,
        })
    }
}

/// A status of gRPC by its name or number.
fn grpc_status(text: &str) -> Result<u32, Bad> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let found = (0..)
        .zip(NAMES)
        .find(|(number, name)| *name == text || number.to_string() == text);
    found
        .map(|(number, _)| number)
        .ok_or_else(|| Bad::at("abort.grpcStatus", format!("{text:?} is no status of gRPC")))
}

impl RetriesSpec {
    pub(super) fn retry(&self) -> Result<Retry, Bad> {
        const KNOWN: [&str; 15] = [
            "5xx",
            "gateway-error",
            "reset",
            "reset-before-request",
            "connect-failure",
            "refused-stream",
            "envoy-ratelimited",
            "retriable-4xx",
            "retriable-status-codes",
            "http3-post-connect-failure",
            "cancelled",
            "deadline-exceeded",
            "resource-exhausted",
            "internal",
            "unavailable",
        ];
        let mut codes = Vec::new();
        let mut names = Vec::new();
        let words = self.retry_on.iter().flat_map(|text| text.split(','));
        for word in words.map(str::trim).filter(|word| !word.is_empty()) {
            match word.parse::<u32>() {
                Ok(code) if (100..600).contains(&code) => codes.push(code),
                Err(_) if word == "retriable-status-codes" => {}
                Err(_) if KNOWN.contains(&word) => names.push(word),
                _ => return Err(Bad::at("retryOn", format!("there is no condition {word:?}"))),
            }
        }
        Ok(Retry {
            resets: false,
            attempts: self.attempts,
            on: (!names.is_empty() || !codes.is_empty()).then(|| names.join(",")),
            codes,
            backoff: positive(self.backoff.as_ref(), "backoff")?,
            per_try: optional(self.per_try_timeout.as_ref(), "perTryTimeout")?.filter(|time| *time > Duration::ZERO),
            same_hosts: self.retry_ignore_previous_hosts == Some(false),
            other_priorities: self.retry_remote_localities == Some(true),
        })
    }
}

impl CorsSpec {
    pub(super) fn cors(&self) -> Result<Cors, Bad> {
        let mut origins: Vec<Origin> = self.allow_origin.iter().cloned().map(Origin::Glob).collect();
        for (index, origin) in self.allow_origins.iter().enumerate() {
            let at = format!("allowOrigins[{index}]");
            origins.push(Origin::Text(origin.text().map_err(|bad| bad.below(&at))?));
        }
        if origins
            .iter()
            .any(|origin| matches!(origin, Origin::Text(Text::Present)))
        {
            return Err(Bad::at("allowOrigins", "each must have one of exact, prefix and regex"));
        }
        for (field, words) in [
            ("allowMethods", &self.allow_methods),
            ("allowHeaders", &self.allow_headers),
            ("exposeHeaders", &self.expose_headers),
        ] {
            let bad = |word: &String| word != "*" && values::header_name(word).is_err();
            if let Some(index) = words.iter().position(bad) {
                return Err(Bad::at(format!("{field}[{index}]"), "neither a name nor *"));
            }
        }
        Ok(Cors {
            origins,
            methods: self.allow_methods.clone(),
            headers: self.allow_headers.clone(),
            expose: self.expose_headers.clone(),
            max_age: optional(self.max_age.as_ref(), "maxAge")?.map(|age| age.as_secs()),
            credentials: self.allow_credentials.unwrap_or(false),
            forwards_others: self.unmatched_preflights != Preflights::Ignore,
        })
    }
}
