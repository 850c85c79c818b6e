//! The fields of Telemetry, and what holds for each.

use super::entry::{Field, State, field, served};

use State::{Ignored, Served};

const PODS: State = Ignored("waypoints alone log and trace requests: nothing follows from an object for pods");
const METRICS: State = Ignored("is not served: metrics are counted as without it");
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
    field("spec.metrics", METRICS),
    field("spec.metrics[].overrides", METRICS),
    field("spec.metrics[].overrides[].disabled", METRICS),
    field("spec.metrics[].overrides[].match", METRICS),
    field("spec.metrics[].overrides[].match.customMetric", METRICS),
    Field {
        values: &[
            ("ALL_METRICS", METRICS),
            ("GRPC_REQUEST_MESSAGES", METRICS),
            ("GRPC_RESPONSE_MESSAGES", METRICS),
            ("REQUEST_COUNT", METRICS),
            ("REQUEST_DURATION", METRICS),
            ("REQUEST_SIZE", METRICS),
            ("RESPONSE_SIZE", METRICS),
            ("TCP_CLOSED_CONNECTIONS", METRICS),
            ("TCP_OPENED_CONNECTIONS", METRICS),
            ("TCP_RECEIVED_BYTES", METRICS),
            ("TCP_SENT_BYTES", METRICS),
        ],
        other_values: Some(METRICS),
        ..field("spec.metrics[].overrides[].match.metric", METRICS)
    },
    Field {
        values: &[("CLIENT", METRICS), ("CLIENT_AND_SERVER", METRICS), ("SERVER", METRICS)],
        other_values: Some(METRICS),
        ..field("spec.metrics[].overrides[].match.mode", METRICS)
    },
    field("spec.metrics[].overrides[].tagOverrides", METRICS),
    field("spec.metrics[].overrides[].tagOverrides.*", METRICS),
    Field {
        values: &[("REMOVE", METRICS), ("UPSERT", METRICS)],
        other_values: Some(METRICS),
        ..field("spec.metrics[].overrides[].tagOverrides.*.operation", METRICS)
    },
    field("spec.metrics[].overrides[].tagOverrides.*.value", METRICS),
    field("spec.metrics[].providers", METRICS),
    field("spec.metrics[].providers[].name", METRICS),
    field("spec.metrics[].reportingInterval", METRICS),
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
