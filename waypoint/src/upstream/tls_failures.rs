//! How often TLS of endpoints' own did not come about.

use culvert_telemetry::prometheus::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::endpoint_tls::Reason;

/// How often TLS of endpoints' own did not come about, by reason. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct TlsFailures(Family<[(&'static str, &'static str); 1], Counter>);

impl TlsFailures {
    /// Nothing has failed yet, which shows: what appears with its first event is no increase.
    pub fn register(registry: &mut Registry) -> Self {
        let failures = Self::default();
        registry.register(
            "culvert_waypoint_endpoint_tls_failures",
            "Connections to endpoints that speak TLS themselves, where it did not come about",
            failures.0.clone(),
        );
        for reason in Reason::ALL {
            drop(failures.0.get_or_create(&[("reason", reason.word())]));
        }
        failures
    }

    pub(super) fn count(&self, reason: Reason) {
        self.0.get_or_create(&[("reason", reason.word())]).inc();
    }
}
