//! Limits that each waypoint counts by itself: Envoy's filter for them, in which each limit is a descriptor with a bucket.

use culvert_envoy::pb::envoy::config::route::v3::RateLimit;
use culvert_envoy::pb::envoy::config::route::v3::rate_limit::Action;
use culvert_envoy::pb::envoy::config::route::v3::rate_limit::action::ActionSpecifier;
use culvert_envoy::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use culvert_envoy::pb::envoy::extensions::common::ratelimit::v3::{
    LocalRateLimitDescriptor, XRateLimitHeadersRfcVersion,
};
use culvert_envoy::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use culvert_envoy::pb::envoy::r#type::v3::TokenBucket;

use super::super::policy::{Attribute, LocalLimit};
use super::{descriptors, parts};

pub(super) const NAME: &str = "envoy.filters.http.local_ratelimit";

/// How many values of what a limit is by have buckets of their own, at most: the one that was not seen for longest is forgotten.
const BUCKETS: u32 = 10_000;
const MILLION: u32 = 1_000_000;

/// The filter; `prefix` tells its counts from those of all others.
pub(super) fn filter(prefix: &str, limits: &[LocalLimit]) -> LocalRateLimit {
    let (mut rate_limits, mut buckets) = (Vec::new(), Vec::new());
    for (index, limit) in limits.iter().enumerate() {
        for (actions, entries) in kinds(index, limit) {
            rate_limits.push(RateLimit {
                actions,
                ..RateLimit::default()
            });
            buckets.push(LocalRateLimitDescriptor {
                entries,
                token_bucket: Some(TokenBucket {
                    max_tokens: limit.burst,
                    tokens_per_fill: parts::number(limit.requests),
                    fill_interval: Some(parts::duration(limit.per)),
                }),
                ..LocalRateLimitDescriptor::default()
            });
        }
    }
    LocalRateLimit {
        stat_prefix: prefix.to_owned(),
        filter_enabled: Some(parts::fraction(MILLION)),
        filter_enforced: Some(parts::fraction(MILLION)),
        rate_limits,
        descriptors: buckets,
        max_dynamic_descriptors: parts::number(BUCKETS),
        enable_x_ratelimit_headers: XRateLimitHeadersRfcVersion::DraftVersion03.into(),
        enable_retry_after_header: true,
        rate_limited_as_resource_exhausted: true,
        ..LocalRateLimit::default()
    }
}

/// What a limit counts: what is to be found in a request, and the entries that come of it, where no value stands for any.
fn kinds(index: usize, limit: &LocalLimit) -> Vec<(Vec<Action>, Vec<Entry>)> {
    let mut actions = vec![descriptors::text("limit", &index.to_string())];
    let mut entries = vec![entry("limit", &index.to_string())];
    if let Some(action) = descriptors::matched(&limit.matched) {
        actions.push(action);
        entries.push(entry(descriptors::MATCHED, descriptors::YES));
    }
    let with = |action: ActionSpecifier, key: &str, value: &str| {
        let action = Action {
            action_specifier: Some(action),
        };
        let actions = actions.iter().cloned().chain([action]).collect();
        let entries = entries.iter().cloned().chain([entry(key, value)]).collect();
        (actions, entries)
    };
    match &limit.by {
        None => vec![(actions, entries)],
        Some(Attribute::Header(name)) => vec![
            with(descriptors::header(name, "header"), "header", ""),
            with(descriptors::without(name), descriptors::WITHOUT, descriptors::YES),
        ],
        Some(Attribute::ClientAddress) => {
            vec![with(descriptors::address(), descriptors::ADDRESS, "")]
        }
        Some(Attribute::ClientIdentity) => vec![with(descriptors::identity("identity"), "identity", "")],
    }
}

fn entry(key: &str, value: &str) -> Entry {
    Entry {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}
