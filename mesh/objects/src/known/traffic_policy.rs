//! The fields of TrafficPolicy, and what holds for each.

use super::entry::{Field, State, served};

use State::Served;

/// `culvert.dev` TrafficPolicy.
pub(super) const TRAFFIC_POLICY: &[Field] = &[
    served("spec"),
    served("spec.targetRefs"),
    served("spec.targetRefs[].group"),
    Field {
        values: &[("Service", Served), ("HTTPRoute", Served), ("GRPCRoute", Served)],
        ..served("spec.targetRefs[].kind")
    },
    served("spec.targetRefs[].name"),
    served("spec.targetRefs[].sectionName"),
    served("spec.rateLimit"),
    served("spec.rateLimit.local"),
    served("spec.rateLimit.local[].requests"),
    served("spec.rateLimit.local[].per"),
    served("spec.rateLimit.local[].burst"),
    served("spec.rateLimit.local[].by"),
    served("spec.rateLimit.local[].by.header"),
    served("spec.rateLimit.local[].by.clientAddress"),
    served("spec.rateLimit.local[].by.clientIdentity"),
    served("spec.rateLimit.local[].match"),
    served("spec.rateLimit.local[].match.method"),
    served("spec.rateLimit.local[].match.path"),
    Field {
        values: &[("Exact", Served), ("PathPrefix", Served), ("RegularExpression", Served)],
        ..served("spec.rateLimit.local[].match.path.type")
    },
    served("spec.rateLimit.local[].match.path.value"),
    served("spec.rateLimit.local[].match.headers"),
    Field {
        values: &[("Exact", Served), ("RegularExpression", Served)],
        ..served("spec.rateLimit.local[].match.headers[].type")
    },
    served("spec.rateLimit.local[].match.headers[].name"),
    served("spec.rateLimit.local[].match.headers[].value"),
    served("spec.rateLimit.global"),
    served("spec.rateLimit.global.provider"),
    served("spec.rateLimit.global.domain"),
    Field {
        values: &[("Allow", Served), ("Deny", Served)],
        ..served("spec.rateLimit.global.onFailure")
    },
    served("spec.rateLimit.global.timeout"),
    served("spec.rateLimit.global.descriptors"),
    served("spec.rateLimit.global.descriptors[].match"),
    served("spec.rateLimit.global.descriptors[].match.method"),
    served("spec.rateLimit.global.descriptors[].match.path"),
    Field {
        values: &[("Exact", Served), ("PathPrefix", Served), ("RegularExpression", Served)],
        ..served("spec.rateLimit.global.descriptors[].match.path.type")
    },
    served("spec.rateLimit.global.descriptors[].match.path.value"),
    served("spec.rateLimit.global.descriptors[].match.headers"),
    Field {
        values: &[("Exact", Served), ("RegularExpression", Served)],
        ..served("spec.rateLimit.global.descriptors[].match.headers[].type")
    },
    served("spec.rateLimit.global.descriptors[].match.headers[].name"),
    served("spec.rateLimit.global.descriptors[].match.headers[].value"),
    served("spec.rateLimit.global.descriptors[].entries"),
    served("spec.rateLimit.global.descriptors[].entries[].key"),
    served("spec.rateLimit.global.descriptors[].entries[].value"),
    served("spec.rateLimit.global.descriptors[].entries[].header"),
    served("spec.rateLimit.global.descriptors[].entries[].clientAddress"),
    served("spec.rateLimit.global.descriptors[].entries[].clientIdentity"),
    served("spec.compression"),
    Field {
        values: &[("br", Served), ("gzip", Served), ("zstd", Served)],
        ..served("spec.compression.algorithms")
    },
    served("spec.compression.minimumSize"),
    served("spec.compression.contentTypes"),
    served("spec.healthCheck"),
    served("spec.healthCheck.http"),
    served("spec.healthCheck.http.path"),
    served("spec.healthCheck.http.host"),
    served("spec.healthCheck.http.statuses"),
    served("spec.healthCheck.grpc"),
    served("spec.healthCheck.grpc.service"),
    served("spec.healthCheck.tcp"),
    served("spec.healthCheck.interval"),
    served("spec.healthCheck.timeout"),
    served("spec.healthCheck.healthy"),
    served("spec.healthCheck.unhealthy"),
    served("spec.timeouts"),
    served("spec.timeouts.streamIdle"),
    served("spec.timeouts.streamDuration"),
    served("spec.timeouts.grpcTimeoutMax"),
    served("spec.timeouts.requestReceive"),
    served("spec.timeouts.clientIdle"),
    served("spec.timeouts.endpointIdle"),
    served("spec.retry"),
    served("spec.retry.retryAfterMax"),
];
