//! Limits that a service counts for all waypoints together: Envoy's filter for them.

use culvert_envoy::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use culvert_envoy::pb::envoy::config::core::v3::{ApiVersion, GrpcService};
use culvert_envoy::pb::envoy::config::ratelimit::v3::RateLimitServiceConfig;
use culvert_envoy::pb::envoy::config::route::v3::RateLimit as Actions;
use culvert_envoy::pb::envoy::config::route::v3::rate_limit::Action;
use culvert_envoy::pb::envoy::extensions::filters::http::ratelimit::v3::RateLimit;
use culvert_envoy::pb::envoy::extensions::filters::http::ratelimit::v3::rate_limit::XRateLimitHeadersRfcVersion;

use super::super::policy::{Attribute, Counter, Descriptor, Entry, GlobalLimit};
use super::parts::cluster_name;
use super::{descriptors, parts};

pub(super) const NAME: &str = "envoy.filters.http.ratelimit";

/// The filter. Without a service it asks a cluster that is not there, and nobody gets an answer.
pub(super) fn filter(scope: &str, limit: &GlobalLimit, counter: &Counter) -> RateLimit {
    let grpc = EnvoyGrpc {
        cluster_name: cluster_name(scope, counter.backend.as_ref()),
        authority: counter.host.clone(),
        ..EnvoyGrpc::default()
    };
    RateLimit {
        domain: limit.domain.clone(),
        timeout: Some(parts::duration(counter.timeout)),
        failure_mode_deny: !counter.fails_open,
        rate_limited_as_resource_exhausted: true,
        rate_limit_service: Some(RateLimitServiceConfig {
            grpc_service: Some(GrpcService {
                target_specifier: Some(TargetSpecifier::EnvoyGrpc(grpc)),
                ..GrpcService::default()
            }),
            transport_api_version: ApiVersion::V3.into(),
        }),
        enable_x_ratelimit_headers: XRateLimitHeadersRfcVersion::DraftVersion03.into(),
        rate_limits: limit.descriptors.iter().map(actions).collect(),
        ..RateLimit::default()
    }
}

fn actions(descriptor: &Descriptor) -> Actions {
    let entry = |(key, entry): &(String, Entry)| match entry {
        Entry::Text(text) => descriptors::text(key, text),
        Entry::Of(attribute) => Action {
            action_specifier: Some(match attribute {
                Attribute::Header(name) => descriptors::header(name, key),
                // Envoy gives it this key, which is the only one that a policy may give it.
                Attribute::ClientAddress => descriptors::address(),
                Attribute::ClientIdentity => descriptors::identity(key),
            }),
        },
    };
    let entries = descriptor.entries.iter().map(entry);
    // What says that a request matches is an entry, too.
    let matched = descriptors::matched(&descriptor.matched);
    Actions {
        actions: matched.into_iter().chain(entries).collect(),
        ..Actions::default()
    }
}
