//! What control counts.

use culvert_telemetry::prometheus::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Metrics of the way to the controller. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct ControlMetrics {
    /// 1 while the stream to the controller is open.
    pub controller_connected: Gauge,
    /// Addresses that are subscribed on demand.
    pub subscribed_addresses: Gauge,
    /// Host names that are subscribed on demand.
    pub subscribed_hosts: Gauge,
    /// Responses of the controller, by type.
    pub(crate) responses: Family<[(&'static str, &'static str); 1], Counter>,
    /// Resources that were refused, by type.
    pub(crate) rejected: Family<[(&'static str, &'static str); 1], Counter>,
    /// Resources held, by kind.
    pub(crate) resources: Family<[(&'static str, &'static str); 1], Gauge>,
    /// Certificates signed, by outcome.
    pub(crate) certificate_requests: Family<[(&'static str, &'static str); 1], Counter>,
    /// End of validity in unix seconds, by identity.
    pub(crate) certificate_expiry: Family<[(&'static str, String); 1], Gauge>,
}

impl ControlMetrics {
    /// Registers them for a program, whose name begins theirs: `culvert_ztunnel` makes
    /// `culvert_ztunnel_controller_connected`.
    pub fn register(registry: &mut Registry, program: &str) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix(program);
        registry.register(
            "controller_connected",
            "Whether the stream to the controller is open",
            metrics.controller_connected.clone(),
        );
        registry.register(
            "xds_responses",
            "Responses of the controller",
            metrics.responses.clone(),
        );
        registry.register(
            "xds_rejected_resources",
            "Resources that were refused",
            metrics.rejected.clone(),
        );
        registry.register("resources", "Resources held", metrics.resources.clone());
        registry.register(
            "subscribed_addresses",
            "Addresses that are subscribed on demand",
            metrics.subscribed_addresses.clone(),
        );
        registry.register(
            "subscribed_hosts",
            "Host names that are subscribed on demand",
            metrics.subscribed_hosts.clone(),
        );
        registry.register(
            "certificate_requests",
            "Requests to the certificate authority",
            metrics.certificate_requests.clone(),
        );
        registry.register(
            "certificate_expiry_seconds",
            "End of a certificate's validity, unix time",
            metrics.certificate_expiry.clone(),
        );
        metrics
    }
}
