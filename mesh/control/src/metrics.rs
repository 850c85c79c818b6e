//! What control counts.

use std::time::{SystemTime, UNIX_EPOCH};

use culvert_proto::discovery::DeltaDiscoveryResponse;
use culvert_telemetry::prometheus::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use prost::Message as _;

/// Counters by type of resources.
pub(crate) type ByType = Family<[(&'static str, &'static str); 1], Counter>;

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
    pub(crate) responses: ByType,
    /// Responses of which something was refused, by type.
    pub(crate) nacks: ByType,
    /// Resources in them, by type.
    pub(crate) received: ByType,
    /// Their bytes, by type.
    pub(crate) received_bytes: ByType,
    /// When the last one came, in unix seconds.
    pub(crate) last_response: Gauge,
    /// Resources that were refused, by type.
    pub(crate) rejected: ByType,
    /// Resources held, by kind.
    pub(crate) resources: Family<[(&'static str, &'static str); 1], Gauge>,
    /// Certificates signed, by outcome.
    pub(crate) certificate_requests: Family<[(&'static str, &'static str); 1], Counter>,
    /// End of validity in unix seconds, by identity.
    pub(crate) certificate_expiry: Family<[(&'static str, String); 1], Gauge>,
}

impl ControlMetrics {
    /// A response has come.
    pub(crate) fn count(&self, label: [(&'static str, &'static str); 1], response: &DeltaDiscoveryResponse) {
        self.responses.get_or_create(&label).inc();
        self.received
            .get_or_create(&label)
            .inc_by(response.resources.len() as u64);
        self.received_bytes
            .get_or_create(&label)
            .inc_by(response.encoded_len() as u64);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_response.set(now.as_secs() as i64);
    }

    /// Types of resources that a node asks for, as metrics name them.
    pub const TYPES_OF_NODES: [&str; 3] = ["address", "authorization", "mesh"];

    /// Registers them for a program, whose name begins theirs: `culvert_ztunnel` makes
    /// `culvert_ztunnel_controller_connected`. It asks for these types of resources, and for roots.
    pub fn register(registry: &mut Registry, program: &str, types: impl IntoIterator<Item = &'static str>) -> Self {
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
            "xds_nacks",
            "Responses of which something was refused",
            metrics.nacks.clone(),
        );
        registry.register("xds_resources", "Resources in responses", metrics.received.clone());
        registry.register(
            "xds_received_bytes",
            "Bytes of responses",
            metrics.received_bytes.clone(),
        );
        registry.register(
            "xds_last_response_timestamp_seconds",
            "When the controller last answered, unix time",
            metrics.last_response.clone(),
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
        metrics.show_zeros(types);
        metrics
    }

    /// Shows what has not happened yet, so that its first time is an increase.
    fn show_zeros(&self, types: impl IntoIterator<Item = &'static str>) {
        for kind in types.into_iter().chain(["roots"]) {
            for family in [
                &self.responses,
                &self.nacks,
                &self.received,
                &self.received_bytes,
                &self.rejected,
            ] {
                drop(family.get_or_create(&[("type", kind)]));
            }
        }
        for outcome in ["signed", "failed"] {
            drop(self.certificate_requests.get_or_create(&[("outcome", outcome)]));
        }
    }
}
