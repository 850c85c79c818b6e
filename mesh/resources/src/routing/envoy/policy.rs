//! What TrafficPolicies ask of a port: a filter for each part of each policy. Those of a policy for the whole port hold for all requests,
//! those of one for a route are disabled and enabled by its rules, so that all its rules count together.

use std::collections::HashMap;

use culvert_envoy::pack;
use culvert_envoy::pb::envoy::config::route::v3::FilterConfig;
use culvert_envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use culvert_envoy::pb::google::protobuf::Any;
use prost::{Message, Name};

use super::super::policy::Applied;
use super::listener::http_filter;
use super::local_limit;

/// What decides about requests, in order: behind access policies, so that who is refused takes no part of a limit.
pub(super) fn of_requests(chain: &str, policies: &[Applied]) -> Vec<HttpFilter> {
    let local = policies.iter().filter(|applied| !applied.policy.local.is_empty());
    local
        .map(|applied| {
            let filter = local_limit::filter(&format!("{chain}/{}", applied.name), &applied.policy.local);
            named(local_limit::NAME, applied, &filter)
        })
        .collect()
}

/// What the rules say to these filters that `own` is for, among all of a port.
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
    names(own).map(|name| (name, pack(&enabled))).collect()
}

/// The names of all filters of a policy.
fn names(applied: &Applied) -> impl Iterator<Item = String> {
    let local = (!applied.policy.local.is_empty()).then(|| name(local_limit::NAME, applied));
    local.into_iter()
}

/// A filter of a policy.
fn named<M: Message + Name>(kind: &str, applied: &Applied, config: &M) -> HttpFilter {
    HttpFilter {
        disabled: !applied.is_for_all,
        ..http_filter(&name(kind, applied), config)
    }
}

fn name(kind: &str, applied: &Applied) -> String {
    format!("{kind}/{}", applied.name)
}
