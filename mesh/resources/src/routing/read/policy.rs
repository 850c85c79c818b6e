//! TrafficPolicy. One that cannot be read as a whole is not in force.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::super::model::Match;
use super::super::policy::{
    Algorithm, Ask, Attribute, Compression, Descriptor, Entry, GlobalLimit, HealthCheck, LocalLimit, TrafficPolicy,
};
use super::matches;
use super::notes::Notes;
use super::values::{self, Bad, list};

/// The longest time that a limit may be for, or that lies between two checks.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The key of a client's address, which Envoy always calls so.
const ADDRESS: &str = "remote_address";
/// The most that a limit can count.
const MOST: u32 = 1_000_000_000;

/// An object that a policy is for.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) section_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    #[serde(rename = "targetRefs")]
    _target_refs: Option<Value>,
    rate_limit: Option<RateLimitSpec>,
    compression: Option<CompressionSpec>,
    health_check: Option<HealthCheckSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RateLimitSpec {
    #[serde(default, deserialize_with = "list")]
    local: Vec<LocalSpec>,
    global: Option<GlobalSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LocalSpec {
    requests: u32,
    per: String,
    burst: Option<u32>,
    by: Option<AttributeSpec>,
    #[serde(rename = "match")]
    matched: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AttributeSpec {
    header: Option<String>,
    client_address: Option<Empty>,
    client_identity: Option<Empty>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GlobalSpec {
    provider: String,
    domain: String,
    #[serde(default, deserialize_with = "list")]
    descriptors: Vec<DescriptorSpec>,
    on_failure: Option<OnFailure>,
    timeout: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum OnFailure {
    Allow,
    Deny,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DescriptorSpec {
    #[serde(default, deserialize_with = "list")]
    entries: Vec<EntrySpec>,
    #[serde(rename = "match")]
    matched: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EntrySpec {
    key: String,
    value: Option<String>,
    header: Option<String>,
    client_address: Option<Empty>,
    client_identity: Option<Empty>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CompressionSpec {
    algorithms: Option<Vec<AlgorithmSpec>>,
    minimum_size: Option<u32>,
    content_types: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum AlgorithmSpec {
    Br,
    Gzip,
    Zstd,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HealthCheckSpec {
    http: Option<HttpSpec>,
    grpc: Option<GrpcSpec>,
    tcp: Option<Empty>,
    interval: Option<String>,
    timeout: Option<String>,
    healthy: Option<u32>,
    unhealthy: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HttpSpec {
    path: String,
    host: Option<String>,
    statuses: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GrpcSpec {
    service: Option<String>,
}

/// What a policy is for: each by its place, or that it cannot be read, which is noted.
pub(crate) fn targets(spec: &Value, notes: &mut Notes) -> Vec<(usize, Target)> {
    let written = spec["targetRefs"].as_array().into_iter().flatten().enumerate();
    let read = |(index, value): (usize, &Value)| match values::read::<Target>(value) {
        Ok(target) => Some((index, target)),
        Err(bad) => {
            let bad = bad.below(&format!("spec.targetRefs[{index}]"));
            notes.refuse(bad.field, format!("{}: it is for nothing", bad.message));
            None
        }
    };
    let found: Vec<_> = written.filter_map(read).collect();
    if found.is_empty() {
        notes.refuse("spec.targetRefs", "there is none: the policy is for nothing");
    }
    found
}

/// What a policy asks for; none where it cannot be read, which is noted.
pub(crate) fn policy(spec: &Value, notes: &mut Notes) -> Option<TrafficPolicy> {
    let read = values::read::<Spec>(spec).and_then(whole).and_then(is_something);
    let read = read.and_then(|policy| is_for_services(spec, policy));
    let refused = read.map_err(|bad| {
        let bad = bad.below("spec");
        notes.refuse(bad.field, format!("{}: nothing of the policy is in force", bad.message));
    });
    refused.ok()
}

fn is_for_services(spec: &Value, policy: TrafficPolicy) -> Result<TrafficPolicy, Bad> {
    let mut targets = spec["targetRefs"].as_array().into_iter().flatten();
    if policy.health_check.is_some() && targets.any(|target| target["kind"] != "Service") {
        return Err(Bad::at(
            "healthCheck",
            "it is for Services alone: a route has no endpoints of its own",
        ));
    }
    Ok(policy)
}

fn is_something(policy: TrafficPolicy) -> Result<TrafficPolicy, Bad> {
    if policy == TrafficPolicy::default() {
        return Err(Bad::at("", "it says nothing: rateLimit, compression or healthCheck"));
    }
    Ok(policy)
}

fn whole(spec: Spec) -> Result<TrafficPolicy, Bad> {
    let (local, global) = match spec.rate_limit {
        None => (Vec::new(), None),
        Some(limit) => {
            let locals = limit.local.into_iter().enumerate();
            let locals =
                locals.map(|(index, spec)| local(spec).map_err(|bad| bad.below(&format!("rateLimit.local[{index}]"))));
            let global = limit.global.map(global).transpose();
            let locals: Vec<LocalLimit> = locals.collect::<Result<_, _>>()?;
            let global = global.map_err(|bad| bad.below("rateLimit.global"))?;
            if locals.is_empty() && global.is_none() {
                return Err(Bad::at("rateLimit", "it must be local, global or both"));
            }
            (locals, global)
        }
    };
    let compression = spec.compression.map(compression).transpose();
    let health_check = spec.health_check.map(health_check).transpose();
    Ok(TrafficPolicy {
        local,
        global,
        compression: compression.map_err(|bad| bad.below("compression"))?,
        health_check: health_check.map_err(|bad| bad.below("healthCheck"))?,
    })
}

fn local(spec: LocalSpec) -> Result<LocalLimit, Bad> {
    let by = spec.by.map(|spec| {
        let none = || Bad::at("by", "it must have one of header, clientAddress and clientIdentity");
        attribute(spec.header, spec.client_address, spec.client_identity)
            .map_err(|bad| bad.below("by"))?
            .ok_or_else(none)
    });
    Ok(LocalLimit {
        requests: count("requests", spec.requests)?,
        per: period("per", &spec.per)?,
        burst: count("burst", spec.burst.unwrap_or(spec.requests))?,
        by: by.transpose()?,
        matched: matched(spec.matched.as_ref())?,
    })
}

fn count(field: &str, number: u32) -> Result<u32, Bad> {
    if (1..=MOST).contains(&number) {
        return Ok(number);
    }
    Err(Bad::at(field, format!("{number} is not between 1 and {MOST}")))
}

/// Whole seconds.
fn period(field: &str, text: &str) -> Result<Duration, Bad> {
    let time = values::duration(text).map_err(|message| Bad::at(field, message))?;
    if time.subsec_nanos() == 0 && !time.is_zero() && time <= LONGEST {
        return Ok(time);
    }
    Err(Bad::at(
        field,
        format!("{text:?} is not a time from 1s to 24h in whole seconds"),
    ))
}

/// How long somebody may take to answer.
fn patience(field: &str, text: &str) -> Result<Duration, Bad> {
    let time = values::duration(text).map_err(|message| Bad::at(field, message))?;
    if (Duration::from_millis(1)..=Duration::from_secs(60)).contains(&time) {
        return Ok(time);
    }
    Err(Bad::at(field, format!("{text:?} is not between 1ms and 60s")))
}

/// One of these, if any is there.
fn attribute(
    header: Option<String>,
    address: Option<Empty>,
    identity: Option<Empty>,
) -> Result<Option<Attribute>, Bad> {
    let found = match (header, address, identity) {
        (Some(name), None, None) => {
            let name = values::header_name(&name).map_err(|message| Bad::at("header", message))?;
            Some(Attribute::Header(name))
        }
        (None, Some(Empty {}), None) => Some(Attribute::ClientAddress),
        (None, None, Some(Empty {})) => Some(Attribute::ClientIdentity),
        (None, None, None) => None,
        _ => {
            return Err(Bad::at(
                "",
                "it must have one of header, clientAddress and clientIdentity alone",
            ));
        }
    };
    Ok(found)
}

fn matched(value: Option<&Value>) -> Result<Match, Bad> {
    let Some(value) = value else {
        return Ok(Match::any());
    };
    matches::of_policy(value).map_err(|bad| bad.below("match"))
}

fn global(spec: GlobalSpec) -> Result<GlobalLimit, Bad> {
    for (field, text) in [("provider", &spec.provider), ("domain", &spec.domain)] {
        if text.is_empty() {
            return Err(Bad::at(field, "it is empty"));
        }
    }
    if spec.descriptors.is_empty() {
        return Err(Bad::at("descriptors", "there is none"));
    }
    let descriptors = spec.descriptors.into_iter().enumerate();
    let descriptors =
        descriptors.map(|(index, spec)| descriptor(spec).map_err(|bad| bad.below(&format!("descriptors[{index}]"))));
    Ok(GlobalLimit {
        descriptors: descriptors.collect::<Result<_, _>>()?,
        timeout: spec.timeout.map(|text| patience("timeout", &text)).transpose()?,
        fails_open: spec.on_failure.map(|instead| instead == OnFailure::Allow),
        provider: spec.provider,
        domain: spec.domain,
    })
}

fn descriptor(spec: DescriptorSpec) -> Result<Descriptor, Bad> {
    if spec.entries.is_empty() {
        return Err(Bad::at("entries", "there is none"));
    }
    let entries = spec.entries.into_iter().enumerate();
    let entries = entries.map(|(index, spec)| entry(spec).map_err(|bad| bad.below(&format!("entries[{index}]"))));
    Ok(Descriptor {
        entries: entries.collect::<Result<_, _>>()?,
        matched: matched(spec.matched.as_ref())?,
    })
}

fn entry(spec: EntrySpec) -> Result<(String, Entry), Bad> {
    if spec.key.is_empty() {
        return Err(Bad::at("key", "it is empty"));
    }
    let attribute = attribute(spec.header, spec.client_address, spec.client_identity)?;
    let entry = match (spec.value, attribute) {
        (Some(text), None) if !text.is_empty() => Entry::Text(text),
        (None, Some(Attribute::ClientAddress)) if spec.key != ADDRESS => {
            return Err(Bad::at(
                "key",
                format!("the key of clientAddress is {ADDRESS}: Envoy has no other for it"),
            ));
        }
        (None, Some(attribute)) => Entry::Of(attribute),
        _ => {
            let message = "it must have one of value, header, clientAddress and clientIdentity";
            return Err(Bad::at("", message));
        }
    };
    Ok((spec.key, entry))
}

/// What is compressed where nothing is said: what is text.
const CONTENT_TYPES: [&str; 12] = [
    "text/html",
    "text/plain",
    "text/css",
    "text/csv",
    "text/xml",
    "text/javascript",
    "application/javascript",
    "application/json",
    "application/problem+json",
    "application/xml",
    "application/xhtml+xml",
    "image/svg+xml",
];

fn compression(spec: CompressionSpec) -> Result<Compression, Bad> {
    let all = || vec![AlgorithmSpec::Zstd, AlgorithmSpec::Br, AlgorithmSpec::Gzip];
    let mut algorithms = Vec::new();
    for asked in spec.algorithms.unwrap_or_else(all) {
        let algorithm = match asked {
            AlgorithmSpec::Br => Algorithm::Brotli,
            AlgorithmSpec::Gzip => Algorithm::Gzip,
            AlgorithmSpec::Zstd => Algorithm::Zstd,
        };
        if !algorithms.contains(&algorithm) {
            algorithms.push(algorithm);
        }
    }
    if algorithms.is_empty() {
        return Err(Bad::at("algorithms", "there is none"));
    }
    let minimum = spec.minimum_size.unwrap_or(1024);
    if !(30..=1 << 30).contains(&minimum) {
        return Err(Bad::at(
            "minimumSize",
            format!("{minimum} is not between 30 and {}", 1 << 30),
        ));
    }
    let types = spec
        .content_types
        .unwrap_or_else(|| CONTENT_TYPES.map(str::to_owned).into());
    for (index, name) in types.iter().enumerate() {
        let is_token = |text: &str| {
            let byte = |b: u8| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b);
            !text.is_empty() && text.bytes().all(byte)
        };
        if !name
            .split_once('/')
            .is_some_and(|(kind, rest)| is_token(kind) && is_token(rest))
        {
            return Err(Bad::at(
                format!("contentTypes[{index}]"),
                format!("{name:?} is no media type"),
            ));
        }
        if name.to_ascii_lowercase().starts_with("application/grpc") {
            return Err(Bad::at(
                format!("contentTypes[{index}]"),
                "gRPC compresses its messages itself",
            ));
        }
    }
    if types.is_empty() {
        return Err(Bad::at("contentTypes", "there is none"));
    }
    Ok(Compression {
        algorithms,
        minimum,
        content_types: types.iter().map(|name| name.to_ascii_lowercase()).collect(),
    })
}

fn health_check(spec: HealthCheckSpec) -> Result<HealthCheck, Bad> {
    let ask = match (spec.http, spec.grpc, spec.tcp) {
        (Some(spec), None, None) => http(spec).map_err(|bad| bad.below("http"))?,
        (None, Some(spec), None) => Ask::Grpc {
            service: spec.service.unwrap_or_default(),
        },
        (None, None, Some(Empty {})) => Ask::Tcp,
        _ => return Err(Bad::at("", "it must have one of http, grpc and tcp")),
    };
    let times = |field: &str, number: Option<u32>, default: u32| match number.unwrap_or(default) {
        number @ 1..=100 => Ok(number),
        number => Err(Bad::at(field, format!("{number} is not between 1 and 100"))),
    };
    Ok(HealthCheck {
        ask,
        interval: period("interval", spec.interval.as_deref().unwrap_or("10s"))?,
        timeout: patience("timeout", spec.timeout.as_deref().unwrap_or("1s"))?,
        healthy: times("healthy", spec.healthy, 2)?,
        unhealthy: times("unhealthy", spec.unhealthy, 3)?,
    })
}

fn http(spec: HttpSpec) -> Result<Ask, Bad> {
    if !spec.path.starts_with('/') || !spec.path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Bad::at("path", format!("{:?} is no path", spec.path)));
    }
    let host = spec.host.map(|host| values::hostname(&host, false)).transpose();
    let statuses = spec.statuses.unwrap_or_else(|| vec!["200".to_owned()]);
    if statuses.is_empty() {
        return Err(Bad::at("statuses", "there is none"));
    }
    let range = |(index, text): (usize, &String)| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let status = |text: &str| text.parse::<u16>().ok().filter(|status| (100..600).contains(status));
        match (status(first), status(last)) {
            (Some(first), Some(last)) if first <= last => Ok((first, last)),
            _ => {
                let message = format!("{text:?} is neither a status nor a range of them");
                Err(Bad::at(format!("statuses[{index}]"), message))
            }
        }
    };
    Ok(Ask::Http {
        path: spec.path,
        host: host.map_err(|message| Bad::at("host", message))?,
        statuses: statuses.iter().enumerate().map(range).collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests;
