//! TrafficPolicy. One that cannot be read as a whole is not in force. What it asks for is read part by part: [`limits`], [`compression`],
//! [`health_check`], with [`pieces`] that several have.

mod compression;
mod health_check;
mod limits;
mod pieces;

use serde::Deserialize;
use serde_json::Value;

use self::compression::CompressionSpec;
use self::health_check::HealthCheckSpec;
use self::limits::RateLimitSpec;
use super::super::policy::TrafficPolicy;
use super::notes::Notes;
use super::values::{self, Bad};

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
        Some(limit) => limits::read(limit).map_err(|bad| bad.below("rateLimit"))?,
    };
    let compression = spec.compression.map(compression::read).transpose();
    let health_check = spec.health_check.map(health_check::read).transpose();
    Ok(TrafficPolicy {
        local,
        global,
        compression: compression.map_err(|bad| bad.below("compression"))?,
        health_check: health_check.map_err(|bad| bad.below("healthCheck"))?,
    })
}

#[cfg(test)]
mod tests;
