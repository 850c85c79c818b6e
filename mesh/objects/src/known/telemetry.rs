//! The fields of Telemetry, and what holds for each.

use super::entry::{Field, State, field, served};

use State::{Ignored, Served};

const PODS: State = Ignored("waypoints alone log and trace requests: nothing follows from an object for pods");
const CUSTOM: State = Ignored("there is no such metric: nothing follows from it");
const OF_CONNECTIONS: State = Ignored("waypoints count requests alone: nothing follows from it");
const INTERVAL: State = Ignored("has no effect: metrics are there whenever they are fetched");
const MODE: &[(&str, State)] = &[
    ("CLIENT", Ignored("a waypoint is the server's: the entry is left out")),
    ("CLIENT_AND_SERVER", Served),
    ("SERVER", Served),
];
const UNKNOWN_MODE: State = Ignored("is unknown: the entry holds");
const PROPAGATION: State = Ignored("is not served: what of a trace travels with a request is handed on");
const FORMATTER: State = Ignored("is not served: there is no such tag");
const ISTIO_TAGS: State = Ignored("tags of Istio's own are not added: name them in `customTags`");
const REQUEST_ID: State = Ignored("a request's id always decides whether it is traced");

/// `telemetry.istio.io` Telemetry.
pub(super) const TELEMETRY: &[Field] = &[
    served("spec"),
    served("spec.accessLogging"),
    served("spec.accessLogging[].disabled"),
    served("spec.accessLogging[].filter"),
    served("spec.accessLogging[].filter.expression"),
    served("spec.accessLogging[].match"),
    Field {
        values: MODE,
        other_values: Some(UNKNOWN_MODE),
        ..served("spec.accessLogging[].match.mode")
    },
    served("spec.accessLogging[].providers"),
    served("spec.accessLogging[].providers[].name"),
    served("spec.metrics"),
    served("spec.metrics[].overrides"),
    served("spec.metrics[].overrides[].disabled"),
    served("spec.metrics[].overrides[].match"),
    field("spec.metrics[].overrides[].match.customMetric", CUSTOM),
    Field {
        values: &[
            ("ALL_METRICS", Served),
            ("GRPC_REQUEST_MESSAGES", Served),
            ("GRPC_RESPONSE_MESSAGES", Served),
            ("REQUEST_COUNT", Served),
            ("REQUEST_DURATION", Served),
            ("REQUEST_SIZE", Served),
            ("RESPONSE_SIZE", Served),
            ("TCP_CLOSED_CONNECTIONS", OF_CONNECTIONS),
            ("TCP_OPENED_CONNECTIONS", OF_CONNECTIONS),
            ("TCP_RECEIVED_BYTES", OF_CONNECTIONS),
            ("TCP_SENT_BYTES", OF_CONNECTIONS),
        ],
        other_values: Some(CUSTOM),
        ..served("spec.metrics[].overrides[].match.metric")
    },
    Field {
        values: MODE,
        other_values: Some(UNKNOWN_MODE),
        ..served("spec.metrics[].overrides[].match.mode")
    },
    served("spec.metrics[].overrides[].tagOverrides"),
    served("spec.metrics[].overrides[].tagOverrides.*"),
    Field {
        values: &[("REMOVE", Served), ("UPSERT", Served)],
        other_values: Some(Ignored("is unknown: the tag is as without it")),
        ..served("spec.metrics[].overrides[].tagOverrides.*.operation")
    },
    served("spec.metrics[].overrides[].tagOverrides.*.value"),
    served("spec.metrics[].providers"),
    served("spec.metrics[].providers[].name"),
    field("spec.metrics[].reportingInterval", INTERVAL),
    field("spec.selector", PODS),
    field("spec.selector.matchLabels", PODS),
    field("spec.selector.matchLabels.*", PODS),
    served("spec.targetRef"),
    served("spec.targetRef.group"),
    served("spec.targetRef.kind"),
    served("spec.targetRef.name"),
    served("spec.targetRef.namespace"),
    served("spec.targetRefs"),
    served("spec.targetRefs[].group"),
    served("spec.targetRefs[].kind"),
    served("spec.targetRefs[].name"),
    served("spec.targetRefs[].namespace"),
    served("spec.tracing"),
    served("spec.tracing[].customTags"),
    served("spec.tracing[].customTags.*"),
    served("spec.tracing[].customTags.*.environment"),
    served("spec.tracing[].customTags.*.environment.defaultValue"),
    served("spec.tracing[].customTags.*.environment.name"),
    field("spec.tracing[].customTags.*.formatter", FORMATTER),
    field("spec.tracing[].customTags.*.formatter.value", FORMATTER),
    served("spec.tracing[].customTags.*.header"),
    served("spec.tracing[].customTags.*.header.defaultValue"),
    served("spec.tracing[].customTags.*.header.name"),
    served("spec.tracing[].customTags.*.literal"),
    served("spec.tracing[].customTags.*.literal.value"),
    field("spec.tracing[].disableContextPropagation", PROPAGATION),
    served("spec.tracing[].disableSpanReporting"),
    field("spec.tracing[].enableIstioTags", ISTIO_TAGS),
    served("spec.tracing[].match"),
    Field {
        values: MODE,
        other_values: Some(UNKNOWN_MODE),
        ..served("spec.tracing[].match.mode")
    },
    served("spec.tracing[].providers"),
    served("spec.tracing[].providers[].name"),
    served("spec.tracing[].randomSamplingPercentage"),
    field("spec.tracing[].useRequestIdForTraceSampling", REQUEST_ID),
];
