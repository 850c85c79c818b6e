//! The fields of Gateway, GatewayClass, ReferenceGrant, TCPRoute and TLSRoute, and what holds for each.

use super::entry::{Field, State, field, served};
use super::routes::{DEFAULT_GATEWAYS, UNKNOWN_VALUE};

use State::{Ignored, Served};

const GATEWAY_ONLY: State = Ignored("is about gateways at the edge: a waypoint is as without it");
const CANNOT_BE_HAD: State = Ignored("cannot be had: no waypoint is made, and the Gateway's status says so");
const CLASS_PARAMETERS: State = Ignored("says nothing that Culvert's waypoints know");

/// `gateway.networking.k8s.io` Gateway.
pub(super) const GATEWAY: &[Field] = &[
    served("spec"),
    field("spec.addresses", CANNOT_BE_HAD),
    field("spec.allowedListeners", GATEWAY_ONLY),
    Field {
        values: &[("All", GATEWAY_ONLY), ("None", GATEWAY_ONLY)],
        ..field("spec.defaultScope", GATEWAY_ONLY)
    },
    served("spec.gatewayClassName"),
    served("spec.infrastructure"),
    served("spec.listeners"),
    field("spec.tls", GATEWAY_ONLY),
    field("spec.addresses[].routability", CANNOT_BE_HAD),
    field("spec.addresses[].type", CANNOT_BE_HAD),
    field("spec.addresses[].value", CANNOT_BE_HAD),
    field("spec.allowedListeners.namespaces", GATEWAY_ONLY),
    Field {
        values: &[
            ("All", GATEWAY_ONLY),
            ("None", GATEWAY_ONLY),
            ("Same", GATEWAY_ONLY),
            ("Selector", GATEWAY_ONLY),
        ],
        ..field("spec.allowedListeners.namespaces.from", GATEWAY_ONLY)
    },
    field("spec.allowedListeners.namespaces.selector", GATEWAY_ONLY),
    field(
        "spec.allowedListeners.namespaces.selector.matchExpressions",
        GATEWAY_ONLY,
    ),
    field("spec.allowedListeners.namespaces.selector.matchLabels", GATEWAY_ONLY),
    field(
        "spec.allowedListeners.namespaces.selector.matchExpressions[].key",
        GATEWAY_ONLY,
    ),
    field(
        "spec.allowedListeners.namespaces.selector.matchExpressions[].operator",
        GATEWAY_ONLY,
    ),
    field(
        "spec.allowedListeners.namespaces.selector.matchExpressions[].values",
        GATEWAY_ONLY,
    ),
    field("spec.allowedListeners.namespaces.selector.matchLabels.*", GATEWAY_ONLY),
    served("spec.infrastructure.annotations"),
    served("spec.infrastructure.labels"),
    served("spec.infrastructure.parametersRef"),
    served("spec.infrastructure.annotations.*"),
    served("spec.infrastructure.labels.*"),
    served("spec.infrastructure.parametersRef.group"),
    served("spec.infrastructure.parametersRef.kind"),
    served("spec.infrastructure.parametersRef.name"),
    served("spec.listeners[].allowedRoutes"),
    field("spec.listeners[].filters", GATEWAY_ONLY),
    field("spec.listeners[].hostname", GATEWAY_ONLY),
    served("spec.listeners[].name"),
    served("spec.listeners[].port"),
    served("spec.listeners[].protocol"),
    field("spec.listeners[].tls", GATEWAY_ONLY),
    served("spec.listeners[].allowedRoutes.kinds"),
    served("spec.listeners[].allowedRoutes.namespaces"),
    served("spec.listeners[].allowedRoutes.kinds[].group"),
    served("spec.listeners[].allowedRoutes.kinds[].kind"),
    Field {
        values: &[("All", Served), ("Same", Served), ("Selector", Served)],
        other_values: Some(UNKNOWN_VALUE),
        ..served("spec.listeners[].allowedRoutes.namespaces.from")
    },
    served("spec.listeners[].allowedRoutes.namespaces.selector"),
    served("spec.listeners[].allowedRoutes.namespaces.selector.matchExpressions"),
    served("spec.listeners[].allowedRoutes.namespaces.selector.matchLabels"),
    served("spec.listeners[].allowedRoutes.namespaces.selector.matchExpressions[].key"),
    served("spec.listeners[].allowedRoutes.namespaces.selector.matchExpressions[].operator"),
    served("spec.listeners[].allowedRoutes.namespaces.selector.matchExpressions[].values"),
    served("spec.listeners[].allowedRoutes.namespaces.selector.matchLabels.*"),
    field("spec.listeners[].filters.requests", GATEWAY_ONLY),
    field("spec.listeners[].filters.requests[].extensionRef", GATEWAY_ONLY),
    field("spec.listeners[].filters.requests[].externalAuth", GATEWAY_ONLY),
    Field {
        values: &[("ExtensionRef", GATEWAY_ONLY), ("ExternalAuth", GATEWAY_ONLY)],
        ..field("spec.listeners[].filters.requests[].type", GATEWAY_ONLY)
    },
    field("spec.listeners[].filters.requests[].extensionRef.group", GATEWAY_ONLY),
    field("spec.listeners[].filters.requests[].extensionRef.kind", GATEWAY_ONLY),
    field("spec.listeners[].filters.requests[].extensionRef.name", GATEWAY_ONLY),
    field(
        "spec.listeners[].filters.requests[].externalAuth.backendRef",
        GATEWAY_ONLY,
    ),
    field(
        "spec.listeners[].filters.requests[].externalAuth.forwardBody",
        GATEWAY_ONLY,
    ),
    field("spec.listeners[].filters.requests[].externalAuth.grpc", GATEWAY_ONLY),
    field("spec.listeners[].filters.requests[].externalAuth.http", GATEWAY_ONLY),
    Field {
        values: &[("GRPC", GATEWAY_ONLY), ("HTTP", GATEWAY_ONLY)],
        ..field(
            "spec.listeners[].filters.requests[].externalAuth.protocol",
            GATEWAY_ONLY,
        )
    },
    field(
        "spec.listeners[].filters.requests[].externalAuth.backendRef.group",
        GATEWAY_ONLY,
    ),
    field(
        "spec.listeners[].filters.requests[].externalAuth.backendRef.kind",
        GATEWAY_ONLY,
    ),
    field(
        "spec.listeners[].filters.requests[].externalAuth.backendRef.name",
        GATEWAY_ONLY,
    ),
    field(
        "spec.listeners[].filters.requests[].externalAuth.backendRef.namespace",
        GATEWAY_ONLY,
    ),
    field(
        "spec.listeners[].filters.requests[].externalAuth.backendRef.port",
        GATEWAY_ONLY,
    ),
    field(
        "spec.listeners[].filters.requests[].externalAuth.forwardBody.maxSize",
        GATEWAY_ONLY,
    ),
    field(
        "spec.listeners[].filters.requests[].externalAuth.grpc.allowedHeaders",
        GATEWAY_ONLY,
    ),
    field(
        "spec.listeners[].filters.requests[].externalAuth.http.allowedHeaders",
        GATEWAY_ONLY,
    ),
    field(
        "spec.listeners[].filters.requests[].externalAuth.http.allowedResponseHeaders",
        GATEWAY_ONLY,
    ),
    field(
        "spec.listeners[].filters.requests[].externalAuth.http.path",
        GATEWAY_ONLY,
    ),
    field("spec.listeners[].tls.certificateRefs", GATEWAY_ONLY),
    Field {
        values: &[("Passthrough", GATEWAY_ONLY), ("Terminate", GATEWAY_ONLY)],
        ..field("spec.listeners[].tls.mode", GATEWAY_ONLY)
    },
    field("spec.listeners[].tls.options", GATEWAY_ONLY),
    field("spec.listeners[].tls.certificateRefs[].group", GATEWAY_ONLY),
    field("spec.listeners[].tls.certificateRefs[].kind", GATEWAY_ONLY),
    field("spec.listeners[].tls.certificateRefs[].name", GATEWAY_ONLY),
    field("spec.listeners[].tls.certificateRefs[].namespace", GATEWAY_ONLY),
    field("spec.listeners[].tls.options.*", GATEWAY_ONLY),
    field("spec.tls.backend", GATEWAY_ONLY),
    field("spec.tls.frontend", GATEWAY_ONLY),
    field("spec.tls.backend.clientCertificateRef", GATEWAY_ONLY),
    field("spec.tls.backend.clientCertificateRef.group", GATEWAY_ONLY),
    field("spec.tls.backend.clientCertificateRef.kind", GATEWAY_ONLY),
    field("spec.tls.backend.clientCertificateRef.name", GATEWAY_ONLY),
    field("spec.tls.backend.clientCertificateRef.namespace", GATEWAY_ONLY),
    field("spec.tls.frontend.default", GATEWAY_ONLY),
    field("spec.tls.frontend.perPort", GATEWAY_ONLY),
    field("spec.tls.frontend.default.validation", GATEWAY_ONLY),
    field("spec.tls.frontend.default.validation.caCertificateRefs", GATEWAY_ONLY),
    Field {
        values: &[
            ("AllowInsecureFallback", GATEWAY_ONLY),
            ("AllowValidOnly", GATEWAY_ONLY),
        ],
        ..field("spec.tls.frontend.default.validation.mode", GATEWAY_ONLY)
    },
    field(
        "spec.tls.frontend.default.validation.caCertificateRefs[].group",
        GATEWAY_ONLY,
    ),
    field(
        "spec.tls.frontend.default.validation.caCertificateRefs[].kind",
        GATEWAY_ONLY,
    ),
    field(
        "spec.tls.frontend.default.validation.caCertificateRefs[].name",
        GATEWAY_ONLY,
    ),
    field(
        "spec.tls.frontend.default.validation.caCertificateRefs[].namespace",
        GATEWAY_ONLY,
    ),
    field("spec.tls.frontend.perPort[].port", GATEWAY_ONLY),
    field("spec.tls.frontend.perPort[].tls", GATEWAY_ONLY),
    field("spec.tls.frontend.perPort[].tls.validation", GATEWAY_ONLY),
    field(
        "spec.tls.frontend.perPort[].tls.validation.caCertificateRefs",
        GATEWAY_ONLY,
    ),
    Field {
        values: &[
            ("AllowInsecureFallback", GATEWAY_ONLY),
            ("AllowValidOnly", GATEWAY_ONLY),
        ],
        ..field("spec.tls.frontend.perPort[].tls.validation.mode", GATEWAY_ONLY)
    },
    field(
        "spec.tls.frontend.perPort[].tls.validation.caCertificateRefs[].group",
        GATEWAY_ONLY,
    ),
    field(
        "spec.tls.frontend.perPort[].tls.validation.caCertificateRefs[].kind",
        GATEWAY_ONLY,
    ),
    field(
        "spec.tls.frontend.perPort[].tls.validation.caCertificateRefs[].name",
        GATEWAY_ONLY,
    ),
    field(
        "spec.tls.frontend.perPort[].tls.validation.caCertificateRefs[].namespace",
        GATEWAY_ONLY,
    ),
];

/// `gateway.networking.k8s.io` GatewayClass.
pub(super) const GATEWAY_CLASS: &[Field] = &[
    served("spec"),
    served("spec.controllerName"),
    served("spec.description"),
    field("spec.parametersRef", CLASS_PARAMETERS),
    field("spec.parametersRef.group", CLASS_PARAMETERS),
    field("spec.parametersRef.kind", CLASS_PARAMETERS),
    field("spec.parametersRef.name", CLASS_PARAMETERS),
    field("spec.parametersRef.namespace", CLASS_PARAMETERS),
];

/// `gateway.networking.k8s.io` ReferenceGrant.
pub(super) const REFERENCE_GRANT: &[Field] = &[
    served("spec"),
    served("spec.from"),
    served("spec.to"),
    served("spec.from[].group"),
    served("spec.from[].kind"),
    served("spec.from[].namespace"),
    served("spec.to[].group"),
    served("spec.to[].kind"),
    served("spec.to[].name"),
];

/// `gateway.networking.k8s.io` TCPRoute.
pub(super) const TCP_ROUTE: &[Field] = &[
    served("spec"),
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
    served("spec.rules[].name"),
    served("spec.rules[].backendRefs[].group"),
    served("spec.rules[].backendRefs[].kind"),
    served("spec.rules[].backendRefs[].name"),
    served("spec.rules[].backendRefs[].namespace"),
    served("spec.rules[].backendRefs[].port"),
    served("spec.rules[].backendRefs[].weight"),
];

/// `gateway.networking.k8s.io` TLSRoute.
pub(super) const TLS_ROUTE: &[Field] = &[
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
    served("spec.rules[].name"),
    served("spec.rules[].backendRefs[].group"),
    served("spec.rules[].backendRefs[].kind"),
    served("spec.rules[].backendRefs[].name"),
    served("spec.rules[].backendRefs[].namespace"),
    served("spec.rules[].backendRefs[].port"),
    served("spec.rules[].backendRefs[].weight"),
];
