//! What of a TrafficPolicy is read, and what is refused, by its field.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::routing::model::Match;
use crate::routing::policy::{Attribute, Timeouts};

fn read(spec: Value) -> Result<TrafficPolicy, Vec<String>> {
    let mut notes = Notes::default();
    let read = policy(&spec, &mut notes);
    let fields = notes.all().iter().map(|note| note.field.clone());
    read.ok_or_else(|| fields.collect())
}

fn local(limit: Value) -> Value {
    json!({"rateLimit": {"local": [limit]}})
}

#[test]
fn a_limit_is_read_with_its_defaults() {
    let read = read(local(
        json!({"requests": 10, "per": "1m30s", "by": {"header": "X-User"}}),
    ))
    .unwrap();
    let limit = &read.local[0];
    assert_eq!((limit.requests, limit.burst, limit.per.as_secs()), (10, 10, 90));
    assert_eq!(limit.by, Some(Attribute::Header("x-user".to_owned())));
    assert_eq!(limit.matched, Match::any());
}

#[test]
fn a_policy_with_anything_that_cannot_be_meant_is_not_in_force_and_says_where() {
    for (spec, field) in [
        (json!({}), "spec"),
        (json!({"ratelimit": {}}), "spec.ratelimit"),
        (json!({"rateLimit": {}}), "spec.rateLimit"),
        (
            local(json!({"requests": 0, "per": "1s"})),
            "spec.rateLimit.local[0].requests",
        ),
        (
            local(json!({"requests": -1, "per": "1s"})),
            "spec.rateLimit.local[0].requests",
        ),
        (
            local(json!({"requests": 1, "per": "0s"})),
            "spec.rateLimit.local[0].per",
        ),
        (
            local(json!({"requests": 1, "per": "500ms"})),
            "spec.rateLimit.local[0].per",
        ),
        (
            local(json!({"requests": 1, "per": "25h"})),
            "spec.rateLimit.local[0].per",
        ),
        (
            local(json!({"requests": 1, "per": "1s", "burst": 0})),
            "spec.rateLimit.local[0].burst",
        ),
        (
            local(json!({"requests": 1, "per": "1s", "by": {}})),
            "spec.rateLimit.local[0].by",
        ),
        (
            local(json!({"requests": 1, "per": "1s", "by": {"header": "a", "clientAddress": {}}})),
            "spec.rateLimit.local[0].by",
        ),
        (
            local(json!({"requests": 1, "per": "1s", "match": {"path": {"value": "a"}}})),
            "spec.rateLimit.local[0].match.path.value",
        ),
        (
            local(json!({"requests": 1, "per": "1s", "match": {"queryParams": [{"name": "a", "value": "b"}]}})),
            "spec.rateLimit.local[0].match.queryParams",
        ),
        (
            json!({"compression": {"algorithms": ["deflate"]}}),
            "spec.compression.algorithms[0]",
        ),
        (
            json!({"compression": {"minimumSize": 0}}),
            "spec.compression.minimumSize",
        ),
        (
            json!({"compression": {"contentTypes": ["text"]}}),
            "spec.compression.contentTypes[0]",
        ),
        (
            json!({"compression": {"contentTypes": ["application/grpc"]}}),
            "spec.compression.contentTypes[0]",
        ),
        (json!({"timeouts": {}}), "spec.timeouts"),
        (json!({"timeouts": {"idle": "1s"}}), "spec.timeouts.idle"),
        (json!({"timeouts": {"streamIdle": "1"}}), "spec.timeouts.streamIdle"),
        (json!({"timeouts": {"streamIdle": "-1s"}}), "spec.timeouts.streamIdle"),
        (
            json!({"timeouts": {"streamDuration": "8761h"}}),
            "spec.timeouts.streamDuration",
        ),
        (
            json!({"timeouts": {"grpcTimeoutMax": "1us"}}),
            "spec.timeouts.grpcTimeoutMax",
        ),
        (json!({"timeouts": {"clientIdle": 5}}), "spec.timeouts.clientIdle"),
        (json!({"retry": {}}), "spec.retry"),
        (json!({"retry": {"retryAfterMax": "999ms"}}), "spec.retry.retryAfterMax"),
        (json!({"retry": {"retryAfterMax": "61m"}}), "spec.retry.retryAfterMax"),
        (json!({"healthCheck": {}}), "spec.healthCheck"),
        (json!({"healthCheck": {"tcp": {}, "grpc": {}}}), "spec.healthCheck"),
        (
            json!({"healthCheck": {"tcp": {}, "interval": "0s"}}),
            "spec.healthCheck.interval",
        ),
        (
            json!({"healthCheck": {"tcp": {}, "unhealthy": 0}}),
            "spec.healthCheck.unhealthy",
        ),
        (
            json!({"healthCheck": {"http": {"path": "/", "statuses": ["299-200"]}}}),
            "spec.healthCheck.http.statuses[0]",
        ),
        (
            json!({"rateLimit": {"global": {"provider": "a", "domain": "b", "descriptors": [{"entries": [{"key": "a"}]}]}}}),
            "spec.rateLimit.global.descriptors[0].entries[0]",
        ),
        (
            json!({"rateLimit": {"global": {"provider": "a", "domain": "b", "descriptors": []}}}),
            "spec.rateLimit.global.descriptors",
        ),
    ] {
        assert_eq!(read(spec.clone()), Err(vec![field.to_owned()]), "{spec}");
    }
}

#[test]
fn targets_are_read_one_by_one_and_none_is_said() {
    let mut notes = Notes::default();
    let spec = json!({"targetRefs": [{"group": "", "kind": "Service", "name": "web"}, {"kind": "Service"}]});
    assert_eq!(targets(&spec, &mut notes).len(), 1);
    assert_eq!(notes.all().len(), 1);
    assert!(targets(&json!({}), &mut notes).is_empty());
    assert_eq!(notes.all()[1].field, "spec.targetRefs");
}

#[test]
fn times_are_read_and_zero_is_any_time() {
    let spec = json!({
        "timeouts": {"streamIdle": "0s", "streamDuration": "1h30m", "grpcTimeoutMax": "0s", "requestReceive": "1500ms"},
        "retry": {"retryAfterMax": "1m"},
    });
    let read = read(spec).unwrap();
    let expected = Timeouts {
        stream_idle: Some(Duration::ZERO),
        stream_duration: Some(Duration::from_secs(5400)),
        grpc_most: Some(Duration::ZERO),
        receive: Some(Duration::from_millis(1500)),
        ..Timeouts::default()
    };
    assert_eq!(read.timeouts, expected);
    assert_eq!(read.retry.after_most, Some(Duration::from_secs(60)));
}

#[test]
fn what_a_route_has_none_of_is_refused_where_a_route_is_meant() {
    let of_route = |timeouts: Value| {
        read(json!({
            "targetRefs": [
                {"group": "", "kind": "Service", "name": "web"},
                {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "r"},
            ],
            "timeouts": timeouts,
        }))
    };
    for field in ["requestReceive", "clientIdle", "endpointIdle"] {
        let refused = of_route(json!({(field): "1s"})).unwrap_err();
        assert_eq!(refused, [format!("spec.timeouts.{field}")]);
    }
    for field in ["streamIdle", "streamDuration", "grpcTimeoutMax"] {
        assert!(of_route(json!({(field): "1s"})).is_ok(), "{field}");
    }
}
