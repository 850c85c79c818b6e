//! TrafficPolicy. One that cannot be read as a whole is not in force. What it asks for is read part by part: [`limits`], [`compression`],
//! [`health_check`], [`timeouts`], with [`pieces`] that several have.

mod compression;
mod health_check;
mod limits;
mod pieces;
mod timeouts;

use serde::Deserialize;
use serde_json::Value;

use self::compression::CompressionSpec;
use self::health_check::HealthCheckSpec;
use self::limits::RateLimitSpec;
use self::timeouts::{RetrySpec, TimeoutsSpec};
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
    timeouts: Option<TimeoutsSpec>,
    retry: Option<RetrySpec>,
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
    if targets.all(|target| target["kind"] == "Service") {
        return Ok(policy);
    }
    let times = &policy.timeouts;
    for (is_there, field, why) in [
        (
            policy.health_check.is_some(),
            "healthCheck",
            "a route has no endpoints of its own",
        ),
        (
            times.receive.is_some(),
            "timeouts.requestReceive",
            "it counts before a route is known",
        ),
        (
            times.client_idle.is_some(),
            "timeouts.clientIdle",
            "a route has no connections of its own",
        ),
        (
            times.endpoint_idle.is_some(),
            "timeouts.endpointIdle",
            "a route has no endpoints of its own",
        ),
    ] {
        if is_there {
            return Err(Bad::at(field, format!("it is for Services alone: {why}")));
        }
    }
    Ok(policy)
}

fn is_something(policy: TrafficPolicy) -> Result<TrafficPolicy, Bad> {
    if policy == TrafficPolicy::default() {
        return Err(Bad::at(
            "",
            "it says nothing: rateLimit, compression, healthCheck, timeouts or retry",
        ));
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
    let timeouts = spec.timeouts.map(timeouts::read).transpose();
    let retry = spec.retry.map(timeouts::retry).transpose();
    Ok(TrafficPolicy {
        local,
        global,
        compression: compression.map_err(|bad| bad.below("compression"))?,
        health_check: health_check.map_err(|bad| bad.below("healthCheck"))?,
        timeouts: timeouts.map_err(|bad| bad.below("timeouts"))?.unwrap_or_default(),
        retry: retry.map_err(|bad| bad.below("retry"))?.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests;
