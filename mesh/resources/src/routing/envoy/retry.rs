//! When a request is tried again, and by what of it an endpoint is chosen.

use std::time::Duration;

use culvert_envoy::pack;
use culvert_envoy::pb::envoy::config::route::v3::RetryPolicy;
use culvert_envoy::pb::envoy::config::route::v3::retry_policy::{
    RateLimitedRetryBackOff, ResetHeader, ResetHeaderFormat, RetryBackOff, RetryHostPredicate, RetryPriority,
    retry_host_predicate, retry_priority,
};
use culvert_envoy::pb::envoy::config::route::v3::route_action::HashPolicy;
use culvert_envoy::pb::envoy::config::route::v3::route_action::hash_policy::{
    ConnectionProperties, Cookie, CookieAttribute, Header, PolicySpecifier, QueryParameter,
};
use culvert_envoy::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use culvert_envoy::pb::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;

use super::super::model::{HashBy, Retry};
use super::parts;

/// What is tried again where a route does not say: nobody has worked on it yet.
const RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled";

/// None where nothing is tried again. `after` is the longest time that an endpoint's `retry-after` counts for, if it does.
pub(super) fn policy(retry: &Retry, after: Option<Duration>) -> Option<RetryPolicy> {
    if retry.attempts == 0 {
        return None;
    }
    let codes = if retry.codes.is_empty() {
        ""
    } else {
        ",retriable-status-codes"
    };
    let resets = if retry.resets { ",reset" } else { "" };
    let on = retry.on.as_deref().unwrap_or(RETRY_ON);
    let backoff = |base: Duration| RetryBackOff {
        base_interval: Some(parts::duration(base)),
        ..RetryBackOff::default()
    };
    let other_hosts = || RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(pack(
            &PreviousHostsPredicate {},
        ))),
    };
    let other_priorities = || RetryPriority {
        name: "envoy.retry_priorities.previous_priorities".to_owned(),
        config_type: Some(retry_priority::ConfigType::TypedConfig(pack(
            &PreviousPrioritiesConfig { update_frequency: 2 },
        ))),
    };
    Some(RetryPolicy {
        retry_on: format!("{on}{resets}{codes}").trim_start_matches(',').to_owned(),
        num_retries: parts::number(retry.attempts),
        per_try_timeout: retry.per_try.map(parts::duration),
        retry_host_predicate: (!retry.same_hosts).then(other_hosts).into_iter().collect(),
        host_selection_retry_max_attempts: 5,
        retry_priority: retry.other_priorities.then(other_priorities),
        retriable_status_codes: retry.codes.clone(),
        retry_back_off: retry.backoff.map(backoff),
        rate_limited_retry_back_off: after.map(asked_for),
        ..RetryPolicy::default()
    })
}

/// Waits as long as endpoints ask for (RFC 9110 section 10.2.3). A date in the place of seconds counts for nothing, as with Envoy.
fn asked_for(most: Duration) -> RateLimitedRetryBackOff {
    RateLimitedRetryBackOff {
        reset_headers: vec![ResetHeader {
            name: "retry-after".to_owned(),
            format: ResetHeaderFormat::Seconds.into(),
        }],
        max_interval: Some(parts::duration(most)),
    }
}

/// By what of a request an endpoint is chosen.
pub(super) fn hash(by: &HashBy) -> HashPolicy {
    let specifier = match by {
        HashBy::Header(name) => PolicySpecifier::Header(Header {
            header_name: name.clone(),
            ..Header::default()
        }),
        HashBy::Query(name) => PolicySpecifier::QueryParameter(QueryParameter { name: name.clone() }),
        HashBy::SourceAddress => PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true }),
        HashBy::Cookie {
            name,
            path,
            ttl,
            attributes,
        } => PolicySpecifier::Cookie(Cookie {
            name: name.clone(),
            path: path.clone(),
            ttl: ttl.map(parts::duration),
            attributes: attributes
                .iter()
                .map(|(name, value)| CookieAttribute {
                    name: name.clone(),
                    value: value.clone(),
                })
                .collect(),
        }),
    };
    HashPolicy {
        policy_specifier: Some(specifier),
        ..HashPolicy::default()
    }
}
