//! Limits of a TrafficPolicy.

use serde::Deserialize;
use serde_json::Value;

use super::super::super::model::Match;
use super::super::super::policy::{Attribute, Descriptor, Entry, GlobalLimit, LocalLimit};
use super::super::matches;
use super::super::values::{self, Bad, list};
use super::pieces::{Empty, patience, period};

/// The key of a client's address, which Envoy always calls so.
const ADDRESS: &str = "remote_address";

/// The most that a limit can count.
const MOST: u32 = 1_000_000_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RateLimitSpec {
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

/// What each pod counts by itself, and what a service counts for all.
///
/// # Errors
/// Where a value is none that can be meant.
pub(super) fn read(spec: RateLimitSpec) -> Result<(Vec<LocalLimit>, Option<GlobalLimit>), Bad> {
    let locals = spec.local.into_iter().enumerate();
    let locals = locals.map(|(index, spec)| local(spec).map_err(|bad| bad.below(&format!("local[{index}]"))));
    let locals: Vec<LocalLimit> = locals.collect::<Result<_, _>>()?;
    let global = spec.global.map(global).transpose();
    let global = global.map_err(|bad| bad.below("global"))?;
    if locals.is_empty() && global.is_none() {
        return Err(Bad::at("", "it must be local, global or both"));
    }
    Ok((locals, global))
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
