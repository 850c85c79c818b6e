//! Culvert's own kinds.

use super::entry::Known;
use super::traffic_policy;

/// Their API group.
pub const GROUP: &str = "culvert.dev";

/// Limits, compression and health checks at a waypoint.
pub const TRAFFIC_POLICY: Known = Known {
    fields: traffic_policy::TRAFFIC_POLICY,
    ..Known::of(
        GROUP,
        "TrafficPolicy",
        "trafficpolicies",
        &["v1alpha1"],
        "see its fields",
    )
};
