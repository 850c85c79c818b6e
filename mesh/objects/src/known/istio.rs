//! Istio's kinds.

use super::destination_rule;
use super::entries;
use super::entry::Known;
use super::policies;
use super::restricts::Restricts;
use super::telemetry;
use super::virtual_service;

const EXTENSIONS: &str = "extensions.istio.io";
/// The group of Istio's kinds of routing.
pub(crate) const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";

/// In the order in which Istio prefers them.
const SINCE_ALPHA: &[&str] = &["v1", "v1beta1", "v1alpha3"];
const SINCE_BETA: &[&str] = &["v1", "v1beta1"];

/// Phases of a plug-in that decide about requests.
const DECIDING: Restricts = Restricts::Where {
    field: "phase",
    one_of: &["AUTHN", "AUTHZ"],
};

/// Who may connect to a workload.
pub const AUTHORIZATION_POLICY: Known = Known {
    fields: policies::AUTHORIZATION_POLICY,
    restricts: Restricts::Always,
    ..Known::of(
        SECURITY,
        "AuthorizationPolicy",
        "authorizationpolicies",
        SINCE_BETA,
        "see its fields",
    )
};

/// Whether a workload takes plaintext.
pub const PEER_AUTHENTICATION: Known = Known {
    fields: policies::PEER_AUTHENTICATION,
    restricts: Restricts::Always,
    ..Known::of(
        SECURITY,
        "PeerAuthentication",
        "peerauthentications",
        SINCE_BETA,
        "see its fields",
    )
};

/// Which tokens requests must have.
pub const REQUEST_AUTHENTICATION: Known = Known {
    fields: policies::REQUEST_AUTHENTICATION,
    restricts: Restricts::Always,
    ..Known::of(
        SECURITY,
        "RequestAuthentication",
        "requestauthentications",
        SINCE_BETA,
        "see its fields",
    )
};

/// What holds for connections to a destination.
pub const DESTINATION_RULE: Known = Known {
    fields: &destination_rule::DESTINATION_RULE,
    ..Known::of(
        NETWORKING,
        "DestinationRule",
        "destinationrules",
        SINCE_ALPHA,
        "see its fields",
    )
};

/// Changes of Envoy's configuration.
pub const ENVOY_FILTER: Known = Known::of(
    NETWORKING,
    "EnvoyFilter",
    "envoyfilters",
    &["v1alpha3"],
    "no proxy of the mesh takes Envoy's configuration: it changes nothing",
)
.restricting(Restricts::Mentioning(&[
    "filters.http.rbac",
    "filters.network.rbac",
    "ext_authz",
    "jwt_authn",
    "oauth2",
    "basic_auth",
    "api_key_auth",
    "credential_validator",
]));

/// A gateway's listeners, in Istio's own words.
pub const GATEWAY: Known = Known {
    title: "Gateway.networking.istio.io",
    ..Known::of(
        NETWORKING,
        "Gateway",
        "gateways",
        SINCE_ALPHA,
        "Culvert runs no gateway for it: nothing listens on its ports",
    )
};

/// Settings of proxies.
pub const PROXY_CONFIG: Known = Known::of(
    NETWORKING,
    "ProxyConfig",
    "proxyconfigs",
    &["v1beta1"],
    "the mesh's proxies are as without it",
);

/// Hosts beside the cluster's Services.
pub const SERVICE_ENTRY: Known = Known {
    fields: entries::SERVICE_ENTRY,
    ..Known::of(
        NETWORKING,
        "ServiceEntry",
        "serviceentries",
        SINCE_ALPHA,
        "see its fields",
    )
};

/// What a workload's proxy knows.
pub const SIDECAR: Known = Known::of(
    NETWORKING,
    "Sidecar",
    "sidecars",
    SINCE_ALPHA,
    "workloads reach also what it leaves out, and its listeners are not there",
);

/// Routes of hosts, in Istio's own words.
pub const VIRTUAL_SERVICE: Known = Known {
    fields: virtual_service::VIRTUAL_SERVICE,
    ..Known::of(
        NETWORKING,
        "VirtualService",
        "virtualservices",
        SINCE_ALPHA,
        "see its fields",
    )
};

/// A workload that is no pod.
pub const WORKLOAD_ENTRY: Known = Known {
    fields: entries::WORKLOAD_ENTRY,
    ..Known::of(
        NETWORKING,
        "WorkloadEntry",
        "workloadentries",
        SINCE_ALPHA,
        "see its fields",
    )
};

/// A template of such workloads.
pub const WORKLOAD_GROUP: Known = Known::of(
    NETWORKING,
    "WorkloadGroup",
    "workloadgroups",
    SINCE_ALPHA,
    "no workload registers by it",
);

/// What is logged, counted and traced.
pub const TELEMETRY: Known = Known {
    fields: telemetry::TELEMETRY,
    ..Known::of(
        "telemetry.istio.io",
        "Telemetry",
        "telemetries",
        &["v1", "v1alpha1"],
        "see its fields",
    )
};

/// A plug-in of proxies, in Lua or WebAssembly.
pub const TRAFFIC_EXTENSION: Known = Known::of(
    EXTENSIONS,
    "TrafficExtension",
    "trafficextensions",
    &["v1alpha1"],
    "the plug-in does not run",
)
.restricting(DECIDING);

/// A plug-in of proxies, in WebAssembly.
pub const WASM_PLUGIN: Known = Known::of(
    EXTENSIONS,
    "WasmPlugin",
    "wasmplugins",
    &["v1alpha1"],
    "the plug-in does not run",
)
.restricting(DECIDING);
