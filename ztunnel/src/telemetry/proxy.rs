//! Metrics about the proxy itself.

use culvert_telemetry::prometheus::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// What control counts. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProxyMetrics {
    /// 1 while the stream to the controller is open.
    pub(crate) controller_connected: Gauge,
    /// Responses of the controller, by type.
    pub(crate) responses: Family<[(&'static str, &'static str); 1], Counter>,
    /// Resources that were refused, by type.
    pub(crate) rejected: Family<[(&'static str, &'static str); 1], Counter>,
    /// Resources held, by kind.
    pub(crate) resources: Family<[(&'static str, &'static str); 1], Gauge>,
    /// Addresses that are subscribed on demand.
    pub(crate) subscribed_addresses: Gauge,
    /// Certificates signed, by outcome.
    pub(crate) certificate_requests: Family<[(&'static str, &'static str); 1], Counter>,
    /// End of validity in unix seconds, by identity.
    pub(crate) certificate_expiry: Family<[(&'static str, String); 1], Gauge>,
    /// Connections to tunnel ports that became none, by reason.
    pub(crate) refused_tunnels: Family<[(&'static str, &'static str); 1], Counter>,
    /// 1 while connections wait because the process may open hardly any more descriptors.
    pub(crate) descriptors_short: Gauge,
    /// How often that began.
    pub(crate) descriptor_shortages: Counter,
}

impl ProxyMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "culvert_ztunnel_controller_connected",
            "Whether the stream to the controller is open",
            metrics.controller_connected.clone(),
        );
        registry.register(
            "culvert_ztunnel_xds_responses",
            "Responses of the controller",
            metrics.responses.clone(),
        );
        registry.register(
            "culvert_ztunnel_xds_rejected_resources",
            "Resources that were refused",
            metrics.rejected.clone(),
        );
        registry.register("culvert_ztunnel_resources", "Resources held", metrics.resources.clone());
        registry.register(
            "culvert_ztunnel_subscribed_addresses",
            "Addresses that are subscribed on demand",
            metrics.subscribed_addresses.clone(),
        );
        registry.register(
            "culvert_ztunnel_certificate_requests",
            "Requests to the certificate authority",
            metrics.certificate_requests.clone(),
        );
        registry.register(
            "culvert_ztunnel_certificate_expiry_seconds",
            "End of a certificate's validity, unix time",
            metrics.certificate_expiry.clone(),
        );
        registry.register(
            "culvert_ztunnel_refused_tunnels",
            "Connections to tunnel ports that became none: by rate, or because the handshake failed",
            metrics.refused_tunnels.clone(),
        );
        registry.register(
            "culvert_ztunnel_descriptors_short",
            "Whether connections wait because the process may open hardly any more descriptors",
            metrics.descriptors_short.clone(),
        );
        registry.register(
            "culvert_ztunnel_descriptor_shortages",
            "Times that descriptors became short",
            metrics.descriptor_shortages.clone(),
        );
        metrics
    }
}
