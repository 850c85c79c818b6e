//! What TrafficPolicies ask of a port: a filter for each part of each policy. Those of a policy for the whole port hold for all requests,
//! those of one for a route are disabled and enabled by its rules, so that all its rules count together.

use std::collections::HashMap;
use std::time::Duration;

use culvert_envoy::pack;
use culvert_envoy::pb::envoy::config::route::v3::FilterConfig;
use culvert_envoy::pb::envoy::config::route::v3::route_action::MaxStreamDuration;
use culvert_envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::{HttpFilter, http_filter};
use culvert_envoy::pb::google::protobuf::{self, Any};
use prost::{Message, Name};

use super::super::policy::{Applied, Timeouts};
use super::{compression, global_limit, local_limit, parts};

/// What decides about requests, in order: behind access policies, so that who is refused takes no part of a limit.
pub(super) fn of_requests(scope: &str, chain: &str, policies: &[Applied]) -> Vec<HttpFilter> {
    let local = policies.iter().filter(|applied| !applied.policy.local.is_empty());
    let local = local.map(|applied| {
        let filter = local_limit::filter(&format!("{chain}/{}", applied.name), &applied.policy.local);
        named(local_limit::NAME, applied, &filter)
    });
    let global = policies.iter().filter_map(|applied| {
        let filter = global_limit::filter(scope, applied.policy.global.as_ref()?, applied.counter.as_ref()?);
        Some(named(global_limit::NAME, applied, &filter))
    });
    local.chain(global).collect()
}

/// What becomes of answers, in order.
pub(super) fn of_answers(policies: &[Applied]) -> Vec<HttpFilter> {
    let asked = policies
        .iter()
        .filter_map(|applied| Some((applied, applied.policy.compression.as_ref()?)));
    let filters = asked.flat_map(|(applied, asked)| {
        let filters = compression::names(asked).zip(compression::filters(asked));
        filters.map(move |(name, filter)| named(&name, applied, &filter))
    });
    filters.collect()
}

/// What rules of a route with the policy `own` say to the filters of a port. Limits of a policy for the whole port hold beside its own;
/// of two that compress the route's does.
pub(super) fn of_rule(own: &str, policies: &[Applied]) -> HashMap<String, Any> {
    let Some(own) = policies
        .iter()
        .find(|applied| !applied.is_for_all && *applied.name == *own)
    else {
        return HashMap::new();
    };
    // A configuration that says nothing enables the filter as it is.
    let enabled = FilterConfig {
        config: Some(Any::default()),
        ..FilterConfig::default()
    };
    let disabled = FilterConfig {
        disabled: true,
        ..FilterConfig::default()
    };
    let others = policies
        .iter()
        .filter(|applied| applied.is_for_all && own.policy.compression.is_some());
    let others = others.flat_map(compressors).map(|name| (name, pack(&disabled)));
    let own = limits(own).chain(compressors(own)).map(|name| (name, pack(&enabled)));
    others.chain(own).collect()
}

/// How long things may take at a port as a whole.
pub(super) fn times_of_port(policies: &[Applied]) -> Timeouts {
    of_all(policies)
        .map(|applied| applied.policy.timeouts)
        .unwrap_or_default()
}

/// How long things may take by a rule with the policy `own`: by that, and for each time that it does not name by the port's.
pub(super) fn times_of_rule(own: Option<&str>, policies: &[Applied]) -> Times {
    let own = policies
        .iter()
        .find(|applied| !applied.is_for_all && Some(&*applied.name) == own);
    Times {
        own: own.map(|applied| applied.policy.timeouts).unwrap_or_default(),
        port: times_of_port(policies),
        retry_after: own
            .into_iter()
            .chain(of_all(policies))
            .find_map(|applied| applied.policy.retry.after_most),
    }
}

/// The policy for the port as a whole.
fn of_all(policies: &[Applied]) -> Option<&Applied> {
    policies.iter().find(|applied| applied.is_for_all)
}

/// How long things may take by a rule.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    own: Timeouts,
    port: Timeouts,
    /// The longest time that an endpoint's `retry-after` counts for.
    pub(super) retry_after: Option<Duration>,
}

impl Times {
    /// Without a byte. What holds for the port as a whole is said there.
    pub(super) fn idle(&self) -> Option<protobuf::Duration> {
        self.own.stream_idle.map(parts::duration)
    }

    /// From the request's head on. `timeout` is the rule's own, of which Envoy takes none beside this: the shorter one counts, then.
    pub(super) fn duration(&self, timeout: Option<Duration>) -> Option<MaxStreamDuration> {
        let times = self.own.or(self.port);
        // What the port says alone is said there, and a rule's own timeout holds beside it.
        if self.own.stream_duration.is_none() && times.grpc_most.is_none() {
            return None;
        }
        let shorter = |time: Duration| match timeout {
            Some(timeout) if time.is_zero() => timeout,
            Some(timeout) => timeout.min(time),
            None => time,
        };
        let duration = times.stream_duration.map(shorter).or(timeout);
        Some(MaxStreamDuration {
            max_stream_duration: duration.map(parts::duration),
            grpc_timeout_header_max: times.grpc_most.map(shorter).map(parts::duration),
            ..MaxStreamDuration::default()
        })
    }
}

/// The names of all filters of a policy that limit.
fn limits(applied: &Applied) -> impl Iterator<Item = String> {
    let local = (!applied.policy.local.is_empty()).then(|| name(local_limit::NAME, applied));
    let global = applied
        .policy
        .global
        .as_ref()
        .map(|_| name(global_limit::NAME, applied));
    local.into_iter().chain(global)
}

/// The names of all filters of a policy that compress.
fn compressors(applied: &Applied) -> impl Iterator<Item = String> {
    let asked = applied.policy.compression.iter();
    asked.flat_map(compression::names).map(|kind| name(&kind, applied))
}

/// A filter of a policy.
fn named<M: Message + Name>(kind: &str, applied: &Applied, config: &M) -> HttpFilter {
    HttpFilter {
        name: name(kind, applied),
        config_type: Some(http_filter::ConfigType::TypedConfig(pack(config))),
        disabled: !applied.is_for_all,
        ..HttpFilter::default()
    }
}

fn name(kind: &str, applied: &Applied) -> String {
    format!("{kind}/{}", applied.name)
}
