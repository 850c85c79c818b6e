//! What discovery counts.

use culvert_telemetry::prometheus::metrics::counter::Counter;
use culvert_telemetry::prometheus::metrics::family::Family;
use culvert_telemetry::prometheus::metrics::gauge::Gauge;
use culvert_telemetry::prometheus::registry::Registry;

type ByType = Family<[(&'static str, String); 1], Counter>;

/// Streams, responses, resources and refusals. The label `type` is the short name, as `istio.workload.Address`.
#[derive(Clone, Debug, Default)]
pub(crate) struct DiscoveryMetrics {
    pub(crate) streams: Gauge,
    pub(crate) unauthenticated: Counter,
    responses: ByType,
    resources: ByType,
    removals: ByType,
    refusals: ByType,
}

impl DiscoveryMetrics {
    /// Registers the metrics.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let own = Self::default();
        registry.register(
            "culvert_controller_xds_streams",
            "Discovery streams that are open",
            own.streams.clone(),
        );
        let help = "Discovery streams refused for want of a valid token";
        registry.register(
            "culvert_controller_xds_unauthenticated",
            help,
            own.unauthenticated.clone(),
        );
        registry.register(
            "culvert_controller_xds_responses",
            "Discovery responses sent",
            own.responses.clone(),
        );
        registry.register(
            "culvert_controller_xds_resources",
            "Resources sent",
            own.resources.clone(),
        );
        registry.register("culvert_controller_xds_removals", "Removals sent", own.removals.clone());
        registry.register(
            "culvert_controller_xds_refusals",
            "Responses that clients refused",
            own.refusals.clone(),
        );
        own
    }

    /// Counts a response.
    pub(crate) fn sent(&self, type_url: &str, resources: usize, removals: usize) {
        let label = label(type_url);
        self.responses.get_or_create(&label).inc();
        // Shown before the first, which is an increase then.
        drop(self.refusals.get_or_create(&label));
        self.resources.get_or_create(&label).inc_by(resources as u64);
        self.removals.get_or_create(&label).inc_by(removals as u64);
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, type_url: &str) {
        self.refusals.get_or_create(&label(type_url)).inc();
    }
}

fn label(type_url: &str) -> [(&'static str, String); 1] {
    [("type", type_url.rsplit('/').next().unwrap_or(type_url).to_owned())]
}
