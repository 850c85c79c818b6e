//! The kinds of others that Culvert knows by name: all of Istio's and of the Gateway API's, Culvert's own, and what holds for each field of
//! them. Nothing of these is passed over in silence: what is not served is a finding.
//!
//! | module | what |
//! |---|---|
//! | `entry` | what is known of a kind and of a field |
//! | [`istio`] | Istio's kinds |
//! | [`gateway_api`] | those of the Gateway API |
//! | [`culvert`] | Culvert's own |
//! | `policies` | the fields of AuthorizationPolicy, PeerAuthentication and RequestAuthentication |
//! | `backend_tls` | those of BackendTLSPolicy |
//! | `virtual_service`, `destination_rule` | those of VirtualService and DestinationRule |
//! | `telemetry` | those of Telemetry |
//! | `traffic_policy` | those of TrafficPolicy |
//! | `entries` | those of ServiceEntry and WorkloadEntry |
//! | `gateways` | those of Gateway, GatewayClass, ReferenceGrant, TCPRoute and TLSRoute |
//! | `http_route`, `grpc_route` | those of HTTPRoute and GRPCRoute |
//! | `routes` | what holds for fields that several kinds of routes have |
//! | `restricts` | whether an object would keep somebody out |
//! | `fields` | which fields of an object are not served |
//!
//! To serve a further kind: give it its fields here, and a file of its own in `kinds`. `docs/objects.md` is made from this table
//! and from the CRDs; a test compares all three (`BLESS=1` writes the page).

mod backend_tls;
pub mod culvert;
mod destination_rule;
mod entries;
mod entry;
mod fields;
pub mod gateway_api;
mod gateways;
mod grpc_route;
mod http_route;
pub mod istio;
mod policies;
mod restricts;
mod routes;
mod telemetry;
mod traffic_policy;
mod virtual_service;

pub use entry::{Field, Known, State, UNKNOWN_FIELD};
pub use fields::{unserved_fields, unserved_states};
pub use restricts::Restricts;

/// All of them.
pub static ALL: &[Known] = &[
    istio::AUTHORIZATION_POLICY,
    istio::PEER_AUTHENTICATION,
    istio::REQUEST_AUTHENTICATION,
    istio::DESTINATION_RULE,
    istio::ENVOY_FILTER,
    istio::GATEWAY,
    istio::PROXY_CONFIG,
    istio::SERVICE_ENTRY,
    istio::SIDECAR,
    istio::VIRTUAL_SERVICE,
    istio::WORKLOAD_ENTRY,
    istio::WORKLOAD_GROUP,
    istio::TELEMETRY,
    istio::TRAFFIC_EXTENSION,
    istio::WASM_PLUGIN,
    gateway_api::BACKEND_TLS_POLICY,
    gateway_api::GATEWAY,
    gateway_api::GATEWAY_CLASS,
    gateway_api::GRPC_ROUTE,
    gateway_api::HTTP_ROUTE,
    gateway_api::LISTENER_SET,
    gateway_api::REFERENCE_GRANT,
    gateway_api::TCP_ROUTE,
    gateway_api::TLS_ROUTE,
    gateway_api::UDP_ROUTE,
    gateway_api::X_BACKEND,
    gateway_api::X_BACKEND_TRAFFIC_POLICY,
    gateway_api::X_MESH,
    gateway_api::X_TELEMETRY_POLICY,
    culvert::TRAFFIC_POLICY,
];

/// The kind of a name in a group.
pub fn find(group: &str, kind: &str) -> Option<&'static Known> {
    ALL.iter().find(|known| known.group == group && known.kind == kind)
}

/// What is said of an object that nothing reads, if its group is one of those that are known.
pub(crate) fn unread(api_version: &str, kind: &str) -> Option<String> {
    let (group, version) = api_version.split_once('/')?;
    if !ALL.iter().any(|known| known.group == group) {
        return None;
    }
    let why = match find(group, kind) {
        None => format!("{group} has no kind {kind} that Culvert knows"),
        Some(known) if !known.versions.contains(&version) => {
            let versions = known.versions.join(", ");
            format!("{version} is no version of {kind} that Culvert knows (known: {versions})")
        }
        Some(known) if known.is_served() => format!("{kind} is not read"),
        Some(known) => format!("{kind} is not served: {}", known.instead),
    };
    Some(format!("{why} (the object is left out)"))
}

#[cfg(test)]
mod tests;
