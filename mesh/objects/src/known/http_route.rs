//! The fields of HTTPRoute, and what holds for each.

use super::entry::{Field, State, field, served};
use super::routes::{AT_BACKEND, DEFAULT_GATEWAYS, EXTENSION, UNKNOWN_VALUE};

use State::Served;

/// `gateway.networking.k8s.io` HTTPRoute.
pub(super) const HTTP_ROUTE: &[Field] = &[
    served("spec"),
    served("spec.hostnames"),
    served("spec.parentRefs"),
    served("spec.rules"),
    Field {
        values: &[("All", DEFAULT_GATEWAYS), ("None", DEFAULT_GATEWAYS)],
        ..field("spec.useDefaultGateways", DEFAULT_GATEWAYS)
    },
    served("spec.parentRefs[].group"),
    served("spec.parentRefs[].kind"),
    served("spec.parentRefs[].name"),
    served("spec.parentRefs[].namespace"),
    served("spec.parentRefs[].port"),
    served("spec.parentRefs[].sectionName"),
    served("spec.rules[].backendRefs"),
    served("spec.rules[].filters"),
    served("spec.rules[].matches"),
    served("spec.rules[].name"),
    served("spec.rules[].retry"),
    served("spec.rules[].sessionPersistence"),
    served("spec.rules[].timeouts"),
    served("spec.rules[].backendRefs[].filters"),
    served("spec.rules[].backendRefs[].group"),
    served("spec.rules[].backendRefs[].kind"),
    served("spec.rules[].backendRefs[].name"),
    served("spec.rules[].backendRefs[].namespace"),
    served("spec.rules[].backendRefs[].port"),
    served("spec.rules[].backendRefs[].weight"),
    field("spec.rules[].backendRefs[].filters[].cors", AT_BACKEND),
    field("spec.rules[].backendRefs[].filters[].extensionRef", EXTENSION),
    field("spec.rules[].backendRefs[].filters[].externalAuth", AT_BACKEND),
    served("spec.rules[].backendRefs[].filters[].requestHeaderModifier"),
    served("spec.rules[].backendRefs[].filters[].requestMirror"),
    field("spec.rules[].backendRefs[].filters[].requestRedirect", AT_BACKEND),
    served("spec.rules[].backendRefs[].filters[].responseHeaderModifier"),
    Field {
        values: &[
            ("CORS", AT_BACKEND),
            ("ExtensionRef", EXTENSION),
            ("ExternalAuth", AT_BACKEND),
            ("RequestHeaderModifier", Served),
            ("RequestMirror", Served),
            ("RequestRedirect", AT_BACKEND),
            ("ResponseHeaderModifier", Served),
            ("URLRewrite", AT_BACKEND),
        ],
        other_values: Some(UNKNOWN_VALUE),
        ..served("spec.rules[].backendRefs[].filters[].type")
    },
    field("spec.rules[].backendRefs[].filters[].urlRewrite", AT_BACKEND),
    field("spec.rules[].backendRefs[].filters[].cors.allowCredentials", AT_BACKEND),
    field("spec.rules[].backendRefs[].filters[].cors.allowHeaders", AT_BACKEND),
    Field {
        values: &[
            ("*", AT_BACKEND),
            ("CONNECT", AT_BACKEND),
            ("DELETE", AT_BACKEND),
            ("GET", AT_BACKEND),
            ("HEAD", AT_BACKEND),
            ("OPTIONS", AT_BACKEND),
            ("PATCH", AT_BACKEND),
            ("POST", AT_BACKEND),
            ("PUT", AT_BACKEND),
            ("TRACE", AT_BACKEND),
        ],
        ..field("spec.rules[].backendRefs[].filters[].cors.allowMethods", AT_BACKEND)
    },
    field("spec.rules[].backendRefs[].filters[].cors.allowOrigins", AT_BACKEND),
    field("spec.rules[].backendRefs[].filters[].cors.exposeHeaders", AT_BACKEND),
    field("spec.rules[].backendRefs[].filters[].cors.maxAge", AT_BACKEND),
    field("spec.rules[].backendRefs[].filters[].extensionRef.group", EXTENSION),
    field("spec.rules[].backendRefs[].filters[].extensionRef.kind", EXTENSION),
    field("spec.rules[].backendRefs[].filters[].extensionRef.name", EXTENSION),
    field(
        "spec.rules[].backendRefs[].filters[].externalAuth.backendRef",
        AT_BACKEND,
    ),
    field(
        "spec.rules[].backendRefs[].filters[].externalAuth.forwardBody",
        AT_BACKEND,
    ),
    field("spec.rules[].backendRefs[].filters[].externalAuth.grpc", AT_BACKEND),
    field("spec.rules[].backendRefs[].filters[].externalAuth.http", AT_BACKEND),
    Field {
        values: &[("GRPC", AT_BACKEND), ("HTTP", AT_BACKEND)],
        ..field("spec.rules[].backendRefs[].filters[].externalAuth.protocol", AT_BACKEND)
    },
    field(
        "spec.rules[].backendRefs[].filters[].externalAuth.backendRef.group",
        AT_BACKEND,
    ),
    field(
        "spec.rules[].backendRefs[].filters[].externalAuth.backendRef.kind",
        AT_BACKEND,
    ),
    field(
        "spec.rules[].backendRefs[].filters[].externalAuth.backendRef.name",
        AT_BACKEND,
    ),
    field(
        "spec.rules[].backendRefs[].filters[].externalAuth.backendRef.namespace",
        AT_BACKEND,
    ),
    field(
        "spec.rules[].backendRefs[].filters[].externalAuth.backendRef.port",
        AT_BACKEND,
    ),
    field(
        "spec.rules[].backendRefs[].filters[].externalAuth.forwardBody.maxSize",
        AT_BACKEND,
    ),
    field(
        "spec.rules[].backendRefs[].filters[].externalAuth.grpc.allowedHeaders",
        AT_BACKEND,
    ),
    field(
        "spec.rules[].backendRefs[].filters[].externalAuth.http.allowedHeaders",
        AT_BACKEND,
    ),
    field(
        "spec.rules[].backendRefs[].filters[].externalAuth.http.allowedResponseHeaders",
        AT_BACKEND,
    ),
    field(
        "spec.rules[].backendRefs[].filters[].externalAuth.http.path",
        AT_BACKEND,
    ),
    served("spec.rules[].backendRefs[].filters[].requestHeaderModifier.add"),
    served("spec.rules[].backendRefs[].filters[].requestHeaderModifier.remove"),
    served("spec.rules[].backendRefs[].filters[].requestHeaderModifier.set"),
    served("spec.rules[].backendRefs[].filters[].requestHeaderModifier.add[].name"),
    served("spec.rules[].backendRefs[].filters[].requestHeaderModifier.add[].value"),
    served("spec.rules[].backendRefs[].filters[].requestHeaderModifier.set[].name"),
    served("spec.rules[].backendRefs[].filters[].requestHeaderModifier.set[].value"),
    served("spec.rules[].backendRefs[].filters[].requestMirror.backendRef"),
    served("spec.rules[].backendRefs[].filters[].requestMirror.fraction"),
    served("spec.rules[].backendRefs[].filters[].requestMirror.percent"),
    served("spec.rules[].backendRefs[].filters[].requestMirror.backendRef.group"),
    served("spec.rules[].backendRefs[].filters[].requestMirror.backendRef.kind"),
    served("spec.rules[].backendRefs[].filters[].requestMirror.backendRef.name"),
    served("spec.rules[].backendRefs[].filters[].requestMirror.backendRef.namespace"),
    served("spec.rules[].backendRefs[].filters[].requestMirror.backendRef.port"),
    served("spec.rules[].backendRefs[].filters[].requestMirror.fraction.denominator"),
    served("spec.rules[].backendRefs[].filters[].requestMirror.fraction.numerator"),
    field(
        "spec.rules[].backendRefs[].filters[].requestRedirect.hostname",
        AT_BACKEND,
    ),
    field("spec.rules[].backendRefs[].filters[].requestRedirect.path", AT_BACKEND),
    field("spec.rules[].backendRefs[].filters[].requestRedirect.port", AT_BACKEND),
    Field {
        values: &[("http", AT_BACKEND), ("https", AT_BACKEND)],
        ..field(
            "spec.rules[].backendRefs[].filters[].requestRedirect.scheme",
            AT_BACKEND,
        )
    },
    Field {
        values: &[
            ("301", AT_BACKEND),
            ("302", AT_BACKEND),
            ("303", AT_BACKEND),
            ("307", AT_BACKEND),
            ("308", AT_BACKEND),
        ],
        ..field(
            "spec.rules[].backendRefs[].filters[].requestRedirect.statusCode",
            AT_BACKEND,
        )
    },
    field(
        "spec.rules[].backendRefs[].filters[].requestRedirect.path.replaceFullPath",
        AT_BACKEND,
    ),
    field(
        "spec.rules[].backendRefs[].filters[].requestRedirect.path.replacePrefixMatch",
        AT_BACKEND,
    ),
    Field {
        values: &[("ReplaceFullPath", AT_BACKEND), ("ReplacePrefixMatch", AT_BACKEND)],
        ..field(
            "spec.rules[].backendRefs[].filters[].requestRedirect.path.type",
            AT_BACKEND,
        )
    },
    served("spec.rules[].backendRefs[].filters[].responseHeaderModifier.add"),
    served("spec.rules[].backendRefs[].filters[].responseHeaderModifier.remove"),
    served("spec.rules[].backendRefs[].filters[].responseHeaderModifier.set"),
    served("spec.rules[].backendRefs[].filters[].responseHeaderModifier.add[].name"),
    served("spec.rules[].backendRefs[].filters[].responseHeaderModifier.add[].value"),
    served("spec.rules[].backendRefs[].filters[].responseHeaderModifier.set[].name"),
    served("spec.rules[].backendRefs[].filters[].responseHeaderModifier.set[].value"),
    field("spec.rules[].backendRefs[].filters[].urlRewrite.hostname", AT_BACKEND),
    field("spec.rules[].backendRefs[].filters[].urlRewrite.path", AT_BACKEND),
    field(
        "spec.rules[].backendRefs[].filters[].urlRewrite.path.replaceFullPath",
        AT_BACKEND,
    ),
    field(
        "spec.rules[].backendRefs[].filters[].urlRewrite.path.replacePrefixMatch",
        AT_BACKEND,
    ),
    Field {
        values: &[("ReplaceFullPath", AT_BACKEND), ("ReplacePrefixMatch", AT_BACKEND)],
        ..field("spec.rules[].backendRefs[].filters[].urlRewrite.path.type", AT_BACKEND)
    },
    served("spec.rules[].filters[].cors"),
    field("spec.rules[].filters[].extensionRef", EXTENSION),
    served("spec.rules[].filters[].externalAuth"),
    served("spec.rules[].filters[].requestHeaderModifier"),
    served("spec.rules[].filters[].requestMirror"),
    served("spec.rules[].filters[].requestRedirect"),
    served("spec.rules[].filters[].responseHeaderModifier"),
    Field {
        values: &[
            ("CORS", Served),
            ("ExtensionRef", EXTENSION),
            ("ExternalAuth", Served),
            ("RequestHeaderModifier", Served),
            ("RequestMirror", Served),
            ("RequestRedirect", Served),
            ("ResponseHeaderModifier", Served),
            ("URLRewrite", Served),
        ],
        other_values: Some(UNKNOWN_VALUE),
        ..served("spec.rules[].filters[].type")
    },
    served("spec.rules[].filters[].urlRewrite"),
    served("spec.rules[].filters[].cors.allowCredentials"),
    served("spec.rules[].filters[].cors.allowHeaders"),
    Field {
        values: &[
            ("*", Served),
            ("CONNECT", Served),
            ("DELETE", Served),
            ("GET", Served),
            ("HEAD", Served),
            ("OPTIONS", Served),
            ("PATCH", Served),
            ("POST", Served),
            ("PUT", Served),
            ("TRACE", Served),
        ],
        other_values: Some(UNKNOWN_VALUE),
        ..served("spec.rules[].filters[].cors.allowMethods")
    },
    served("spec.rules[].filters[].cors.allowOrigins"),
    served("spec.rules[].filters[].cors.exposeHeaders"),
    served("spec.rules[].filters[].cors.maxAge"),
    field("spec.rules[].filters[].extensionRef.group", EXTENSION),
    field("spec.rules[].filters[].extensionRef.kind", EXTENSION),
    field("spec.rules[].filters[].extensionRef.name", EXTENSION),
    served("spec.rules[].filters[].externalAuth.backendRef"),
    served("spec.rules[].filters[].externalAuth.forwardBody"),
    served("spec.rules[].filters[].externalAuth.grpc"),
    served("spec.rules[].filters[].externalAuth.http"),
    Field {
        values: &[("GRPC", Served), ("HTTP", Served)],
        other_values: Some(UNKNOWN_VALUE),
        ..served("spec.rules[].filters[].externalAuth.protocol")
    },
    served("spec.rules[].filters[].externalAuth.backendRef.group"),
    served("spec.rules[].filters[].externalAuth.backendRef.kind"),
    served("spec.rules[].filters[].externalAuth.backendRef.name"),
    served("spec.rules[].filters[].externalAuth.backendRef.namespace"),
    served("spec.rules[].filters[].externalAuth.backendRef.port"),
    served("spec.rules[].filters[].externalAuth.forwardBody.maxSize"),
    served("spec.rules[].filters[].externalAuth.grpc.allowedHeaders"),
    served("spec.rules[].filters[].externalAuth.http.allowedHeaders"),
    served("spec.rules[].filters[].externalAuth.http.allowedResponseHeaders"),
    served("spec.rules[].filters[].externalAuth.http.path"),
    served("spec.rules[].filters[].requestHeaderModifier.add"),
    served("spec.rules[].filters[].requestHeaderModifier.remove"),
    served("spec.rules[].filters[].requestHeaderModifier.set"),
    served("spec.rules[].filters[].requestHeaderModifier.add[].name"),
    served("spec.rules[].filters[].requestHeaderModifier.add[].value"),
    served("spec.rules[].filters[].requestHeaderModifier.set[].name"),
    served("spec.rules[].filters[].requestHeaderModifier.set[].value"),
    served("spec.rules[].filters[].requestMirror.backendRef"),
    served("spec.rules[].filters[].requestMirror.fraction"),
    served("spec.rules[].filters[].requestMirror.percent"),
    served("spec.rules[].filters[].requestMirror.backendRef.group"),
    served("spec.rules[].filters[].requestMirror.backendRef.kind"),
    served("spec.rules[].filters[].requestMirror.backendRef.name"),
    served("spec.rules[].filters[].requestMirror.backendRef.namespace"),
    served("spec.rules[].filters[].requestMirror.backendRef.port"),
    served("spec.rules[].filters[].requestMirror.fraction.denominator"),
    served("spec.rules[].filters[].requestMirror.fraction.numerator"),
    served("spec.rules[].filters[].requestRedirect.hostname"),
    served("spec.rules[].filters[].requestRedirect.path"),
    served("spec.rules[].filters[].requestRedirect.port"),
    Field {
        values: &[("http", Served), ("https", Served)],
        other_values: Some(UNKNOWN_VALUE),
        ..served("spec.rules[].filters[].requestRedirect.scheme")
    },
    Field {
        values: &[
            ("301", Served),
            ("302", Served),
            ("303", Served),
            ("307", Served),
            ("308", Served),
        ],
        other_values: Some(UNKNOWN_VALUE),
        ..served("spec.rules[].filters[].requestRedirect.statusCode")
    },
    served("spec.rules[].filters[].requestRedirect.path.replaceFullPath"),
    served("spec.rules[].filters[].requestRedirect.path.replacePrefixMatch"),
    Field {
        values: &[("ReplaceFullPath", Served), ("ReplacePrefixMatch", Served)],
        other_values: Some(UNKNOWN_VALUE),
        ..served("spec.rules[].filters[].requestRedirect.path.type")
    },
    served("spec.rules[].filters[].responseHeaderModifier.add"),
    served("spec.rules[].filters[].responseHeaderModifier.remove"),
    served("spec.rules[].filters[].responseHeaderModifier.set"),
    served("spec.rules[].filters[].responseHeaderModifier.add[].name"),
    served("spec.rules[].filters[].responseHeaderModifier.add[].value"),
    served("spec.rules[].filters[].responseHeaderModifier.set[].name"),
    served("spec.rules[].filters[].responseHeaderModifier.set[].value"),
    served("spec.rules[].filters[].urlRewrite.hostname"),
    served("spec.rules[].filters[].urlRewrite.path"),
    served("spec.rules[].filters[].urlRewrite.path.replaceFullPath"),
    served("spec.rules[].filters[].urlRewrite.path.replacePrefixMatch"),
    Field {
        values: &[("ReplaceFullPath", Served), ("ReplacePrefixMatch", Served)],
        other_values: Some(UNKNOWN_VALUE),
        ..served("spec.rules[].filters[].urlRewrite.path.type")
    },
    served("spec.rules[].matches[].headers"),
    Field {
        values: &[
            ("CONNECT", Served),
            ("DELETE", Served),
            ("GET", Served),
            ("HEAD", Served),
            ("OPTIONS", Served),
            ("PATCH", Served),
            ("POST", Served),
            ("PUT", Served),
            ("TRACE", Served),
        ],
        other_values: Some(UNKNOWN_VALUE),
        ..served("spec.rules[].matches[].method")
    },
    served("spec.rules[].matches[].path"),
    served("spec.rules[].matches[].queryParams"),
    served("spec.rules[].matches[].headers[].name"),
    Field {
        values: &[("Exact", Served), ("RegularExpression", Served)],
        other_values: Some(UNKNOWN_VALUE),
        ..served("spec.rules[].matches[].headers[].type")
    },
    served("spec.rules[].matches[].headers[].value"),
    Field {
        values: &[("Exact", Served), ("PathPrefix", Served), ("RegularExpression", Served)],
        other_values: Some(UNKNOWN_VALUE),
        ..served("spec.rules[].matches[].path.type")
    },
    served("spec.rules[].matches[].path.value"),
    served("spec.rules[].matches[].queryParams[].name"),
    Field {
        values: &[("Exact", Served), ("RegularExpression", Served)],
        other_values: Some(UNKNOWN_VALUE),
        ..served("spec.rules[].matches[].queryParams[].type")
    },
    served("spec.rules[].matches[].queryParams[].value"),
    served("spec.rules[].retry.attempts"),
    served("spec.rules[].retry.backoff"),
    served("spec.rules[].retry.codes"),
    served("spec.rules[].sessionPersistence.absoluteTimeout"),
    served("spec.rules[].sessionPersistence.cookie"),
    served("spec.rules[].sessionPersistence.header"),
    Field {
        values: &[("Cookie", Served), ("Header", Served)],
        other_values: Some(UNKNOWN_VALUE),
        ..served("spec.rules[].sessionPersistence.type")
    },
    Field {
        values: &[("Permanent", Served), ("Session", Served)],
        other_values: Some(UNKNOWN_VALUE),
        ..served("spec.rules[].sessionPersistence.cookie.lifetimeType")
    },
    served("spec.rules[].sessionPersistence.cookie.name"),
    served("spec.rules[].sessionPersistence.cookie.path"),
    served("spec.rules[].sessionPersistence.header.name"),
    served("spec.rules[].timeouts.backendRequest"),
    served("spec.rules[].timeouts.request"),
];
