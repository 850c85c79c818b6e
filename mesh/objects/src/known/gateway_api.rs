//! The kinds of the Gateway API, those that are experimental included.

use super::entry::Known;
use super::restricts::Restricts;
use super::{backend_tls, gateways, grpc_route, http_route};

const GROUP: &str = "gateway.networking.k8s.io";
const EXPERIMENTAL: &str = "gateway.networking.x-k8s.io";

const SEE_FIELDS: &str = "see its fields";
const NO_ROUTE: &str = "its routes are not in force: traffic goes to the Service as without it";
/// A filter that asks somebody whether a request may pass.
const ASKING: Restricts = Restricts::Mentioning(&["ExternalAuth"]);

/// TLS of their own that endpoints speak.
pub const BACKEND_TLS_POLICY: Known = Known {
    fields: backend_tls::BACKEND_TLS_POLICY,
    ..Known::of(
        GROUP,
        "BackendTLSPolicy",
        "backendtlspolicies",
        &["v1", "v1alpha3", "v1alpha2"],
        SEE_FIELDS,
    )
};

/// A gateway or waypoint.
pub const GATEWAY: Known = Known {
    fields: gateways::GATEWAY,
    ..Known::of(GROUP, "Gateway", "gateways", &["v1", "v1beta1", "v1alpha2"], SEE_FIELDS)
};

/// Who runs gateways.
pub const GATEWAY_CLASS: Known = Known {
    fields: gateways::GATEWAY_CLASS,
    ..Known::of(
        GROUP,
        "GatewayClass",
        "gatewayclasses",
        &["v1", "v1beta1", "v1alpha2"],
        SEE_FIELDS,
    )
    .of_cluster()
};

/// Routes of gRPC calls.
pub const GRPC_ROUTE: Known = Known {
    fields: grpc_route::GRPC_ROUTE,
    ..Known::of(GROUP, "GRPCRoute", "grpcroutes", &["v1", "v1alpha2"], SEE_FIELDS).restricting(ASKING)
};

/// Routes of HTTP requests.
pub const HTTP_ROUTE: Known = Known {
    fields: http_route::HTTP_ROUTE,
    ..Known::of(
        GROUP,
        "HTTPRoute",
        "httproutes",
        &["v1", "v1beta1", "v1alpha2"],
        SEE_FIELDS,
    )
    .restricting(ASKING)
};

/// Further listeners of a gateway.
pub const LISTENER_SET: Known = Known::of(
    GROUP,
    "ListenerSet",
    "listenersets",
    &["v1"],
    "Culvert runs no gateway that its listeners could be added to",
)
.with_parents("parentRef");

/// Who may refer to objects of another namespace.
pub const REFERENCE_GRANT: Known = Known {
    fields: gateways::REFERENCE_GRANT,
    ..Known::of(
        GROUP,
        "ReferenceGrant",
        "referencegrants",
        &["v1", "v1beta1", "v1alpha2"],
        SEE_FIELDS,
    )
};

/// Routes of TCP connections.
pub const TCP_ROUTE: Known = Known {
    fields: gateways::TCP_ROUTE,
    ..Known::of(GROUP, "TCPRoute", "tcproutes", &["v1", "v1alpha2"], SEE_FIELDS)
};

/// Routes of TLS connections.
pub const TLS_ROUTE: Known = Known {
    fields: gateways::TLS_ROUTE,
    ..Known::of(
        GROUP,
        "TLSRoute",
        "tlsroutes",
        &["v1", "v1alpha3", "v1alpha2"],
        SEE_FIELDS,
    )
};

/// Routes of datagrams.
pub const UDP_ROUTE: Known =
    Known::of(GROUP, "UDPRoute", "udproutes", &["v1", "v1alpha2"], NO_ROUTE).with_parents("parentRefs");

/// A destination that is no Service.
pub const X_BACKEND: Known = Known::of(
    EXPERIMENTAL,
    "XBackend",
    "xbackends",
    &["v1alpha1"],
    "it is no destination of the mesh: nothing leads to it",
);

/// Retries and sessions.
pub const X_BACKEND_TRAFFIC_POLICY: Known = Known::of(
    EXPERIMENTAL,
    "XBackendTrafficPolicy",
    "xbackendtrafficpolicies",
    &["v1alpha1"],
    "nothing is tried again, and sessions do not persist",
)
.with_parents("targetRefs");

/// A mesh.
pub const X_MESH: Known = Known::of(
    EXPERIMENTAL,
    "XMesh",
    "xmeshes",
    &["v1alpha1"],
    "nothing follows from it: it leaves the mesh as it is",
)
.of_cluster();

/// What is logged, counted and traced.
pub const X_TELEMETRY_POLICY: Known = Known::of(
    EXPERIMENTAL,
    "XTelemetryPolicy",
    "xtelemetrypolicies",
    &["v1alpha1"],
    "the mesh logs and counts as without it, and traces nothing",
)
.with_parents("targetRefs");
