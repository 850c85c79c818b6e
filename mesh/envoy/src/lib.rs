//! What the controller tells a waypoint, in Envoy's v3 types, and how it is named: the contract between the controller on one side
//! and `culvert-waypoint` or Envoy on the other.
//!
//! The messages are those of the crate `envoy-types`, under [`pb`]. `culvert-waypoint` reads of them what it serves and refuses a
//! resource with anything else in it, by name and field, so that nothing is passed over in silence.
//!
//! # Resources
//! Everything is served over one delta ADS stream to the waypoint of one Gateway. Names begin with the Gateway's scope,
//! `NAMESPACE/GATEWAY`, so that no two waypoints share one ([`names`]).
//!
//! | type | name | what |
//! |---|---|---|
//! | Listener | `SCOPE/tunnel` | Envoy's plumbing: port 15008, TLS, ends `CONNECT` and hands what is inside to `SCOPE/inbound` |
//! | Listener | `SCOPE/inbound` | internal; a filter chain for each port of each service that the waypoint is for |
//! | Listener | `SCOPE/connect` | Envoy's plumbing: internal; opens `CONNECT` to an endpoint |
//! | RouteConfiguration | `SCOPE/SERVICE:PORT` | what becomes of requests to that port |
//! | Cluster | `SCOPE/SERVICE:PORT`, with `/SUBSET` behind it | a port of a service that requests may go to; EDS, but STRICT_DNS or LOGICAL_DNS where endpoints are names, and ORIGINAL_DST where connections go where they were going |
//! | Cluster | `SCOPE/inbound`, `SCOPE/originate` | Envoy's plumbing: the way into `SCOPE/inbound`, the way out of `SCOPE/connect` |
//! | Cluster | `SCOPE/direct-tunnel`, `SCOPE/direct-clear`, with ` tls SERVICE:PORT` behind it | Envoy's plumbing: the ways to endpoints that are dialled by their own addresses, and those that speak TLS as that port asks for it |
//! | ClusterLoadAssignment | as its Cluster | endpoints, as the place of the pod that asks for them sees them |
//! | Secret | `default`, `ROOTCA` | Envoy's certificate, key and roots; `culvert-waypoint` asks the certificate service instead |
//!
//! `SERVICE` is the resource name of a service, `namespace/hostname`. `culvert-waypoint` makes its own plumbing, and asks for none of
//! the above ([`names::is_plumbing`]).
//!
//! # A filter chain of `SCOPE/inbound`
//! Its name is `SERVICE:PORT`, with ` tcp` behind it where HTTP is sniffed and this is the chain for what is not HTTP, and its
//! `filter_chain_match` has `prefix_ranges` (the service's addresses) and `destination_port`. Where the protocol of a port is not
//! known, the chain for HTTP has `application_protocols` `http/1.1` and `h2c`, and the other one has none. The last filter of a chain is an
//! `HttpConnectionManager` with RDS, or a `TcpProxy`. What the client asked for in `CONNECT` is the destination address by which a
//! chain is chosen; who it is is in the filter state [`PEER_PRINCIPAL`]. For Envoy alone there are chains for endpoints
//! that are dialled by their own addresses, `SERVICE:PORT at TARGETPORT`.
//!
//! Each chain for HTTP has a `composite` filter, `culvert.external_auth`, which does nothing by itself: a route that asks who may has in its
//! `typed_per_filter_config` a `CompositePerRoute` whose one action (`on_no_match`) is the whole `ext_authz` filter of that route.
//!
//! # Endpoints
//! One that takes connections through the tunnel has an `envoy_internal_address`, of the listener `SCOPE/connect` and with its
//! `ADDRESS:PORT` as `endpoint_id`; one that does not has a `socket_address`. Metadata: [`ORIGINAL_DST`] `local` is `ADDRESS:PORT` (for Envoy's
//! plumbing), [`CULVERT`] has [`endpoint`]'s fields: who must answer, and what telemetry calls it. That of a [`cluster`] says what Envoy does not do;
//! a `HealthCheck` in its typed metadata, under [`CULVERT`], is for `culvert-waypoint` alone.
//!
//! Where places are told apart, the controller holds endpoints for each place of the waypoint's pods beside those for everybody (type
//! `culvert.dev/placed-endpoints`, which is never sent), and serves each pod those of its own place as the ClusterLoadAssignment of the same name.
//!
//! A cluster's `transport_socket` is `internal_upstream`; inside of it `raw_buffer`, or `tls` where endpoints speak TLS themselves: with `sni`, and
//! a `validation_context` that has `trusted_ca` (inline, or [`cluster::SYSTEM_ROOTS`]) and exact `match_typed_subject_alt_names`, or without
//! one where nothing is verified.

#![forbid(unsafe_code)]

pub mod cluster;
pub mod endpoint;
pub mod metrics;
pub mod names;

pub use envoy_types::pb;
use pb::google::protobuf::Any;
use prost::{Message, Name};

/// Type URL of listeners.
pub const LISTENER_TYPE: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

/// Type URL of route configurations.
pub const ROUTE_TYPE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

/// Type URL of clusters.
pub const CLUSTER_TYPE: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

/// Type URL of endpoints.
pub const ENDPOINT_TYPE: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

/// Type URL of certificates with their keys, and of roots.
pub const SECRET_TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// The filter state that holds the SPIFFE ID of who opened the tunnel, as Istio calls it: what RBAC filters match, never the TLS peer,
/// since there is none behind an internal listener.
pub const PEER_PRINCIPAL: &str = "io.istio.peer_principal";

/// Namespace of the metadata that the filters of access policies for requests leave.
pub const RBAC_METADATA: &str = "envoy.filters.http.rbac";

/// What the keys there begin with that rules leave which are tried out, as Istio calls them: those that deny.
pub const DRY_RUN_DENY: &str = "istio_dry_run_deny_";

/// Those that allow.
pub const DRY_RUN_ALLOW: &str = "istio_dry_run_allow_";

/// The CEL expression for the identity, by which rate limits tell clients apart: the only one that `culvert-waypoint` knows there.
pub const IDENTITY_EXPRESSION: &str = "filter_state['io.istio.peer_principal']";

/// Namespace of the metadata by which Envoy's `original_dst` filter finds where a tunnel goes.
pub const ORIGINAL_DST: &str = "envoy.filters.listener.original_dst";

/// Namespace of Culvert's own metadata.
pub const CULVERT: &str = "culvert.dev";

/// The name of a gRPC retry budget, header or metadata that says how often a request has been tried on its way: every hop adds to it, so that
/// retries of several layers do not multiply. A decimal number; absent means 1.
pub const ATTEMPT_HEADER: &str = "x-envoy-attempt-count";

/// A message that is not the one that its type URL says, or of another type than was to be there.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Another type.
    #[error("a {found} where a {wanted} should be")]
    Type {
        /// The type URL.
        found: String,
        /// The type URL that was to be there.
        wanted: String,
    },
    /// It does not parse.
    #[error("a {0} that does not parse")]
    Malformed(String, #[source] prost::DecodeError),
}

/// The type URL of a message.
pub fn type_url<M: Name>() -> String {
    format!("type.googleapis.com/{}", M::full_name())
}

/// A message in an `Any`.
pub fn pack<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: type_url::<M>(),
        value: message.encode_to_vec(),
    }
}

/// The message in an `Any`.
///
/// # Errors
/// Where it is of another type, or does not parse.
pub fn unpack<M: Message + Name + Default>(any: &Any) -> Result<M, UnpackError> {
    let wanted = type_url::<M>();
    if any.type_url != wanted {
        return Err(UnpackError::Type {
            found: any.type_url.clone(),
            wanted,
        });
    }
    M::decode(&*any.value).map_err(|error| UnpackError::Malformed(wanted, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pb::envoy::config::listener::v3::Listener;
    use pb::envoy::config::route::v3::RouteConfiguration;

    #[test]
    fn a_message_goes_through_any_and_back_and_is_taken_for_no_other() {
        let listener = Listener {
            name: "a".to_owned(),
            ..Listener::default()
        };
        let any = pack(&listener);
        assert_eq!(any.type_url, LISTENER_TYPE);
        assert_eq!(unpack::<Listener>(&any).unwrap(), listener);
        assert!(matches!(
            unpack::<RouteConfiguration>(&any),
            Err(UnpackError::Type { .. })
        ));
    }

    #[test]
    fn the_type_urls_are_those_of_the_messages() {
        use pb::envoy::config::{cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment};
        use pb::envoy::extensions::transport_sockets::tls::v3::Secret;
        assert_eq!(type_url::<RouteConfiguration>(), ROUTE_TYPE);
        assert_eq!(type_url::<Cluster>(), CLUSTER_TYPE);
        assert_eq!(type_url::<ClusterLoadAssignment>(), ENDPOINT_TYPE);
        assert_eq!(type_url::<Secret>(), SECRET_TYPE);
    }
}
