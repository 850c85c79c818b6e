//! Metrics of the loops and of the process that they run in.

use culvert_state::Denial;
use culvert_telemetry::prometheus::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// What loops and worker count. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProxyMetrics {
    /// Connections that failed because no local port was free for them inside a pod.
    pub(crate) local_ports_exhausted: Counter,
    /// Connections to tunnel ports that became none, by reason.
    pub(crate) refused_tunnels: Family<[(&'static str, &'static str); 1], Counter>,
    /// 1 while connections wait because the process may open hardly any more descriptors.
    pub(crate) descriptors_short: Gauge,
    /// How often that began.
    pub(crate) descriptor_shortages: Counter,
    /// Bytes that connections make the proxy hold, and may.
    pub(crate) held_bytes: Gauge,
    pub(crate) held_limit: Gauge,
    /// Connections that were reset because too much was held.
    pub(crate) shed_connections: Counter,
    /// Streams of peers that were refused, by reason: `memory`, `streams`, `certificate`.
    pub(crate) refused_streams: Family<[(&'static str, &'static str); 1], Counter>,
    /// Connections whose application was not answered before the far side was, by how it was: `met`, `refused`, `silent`,
    /// `gone` (it gave up), `unheld` (accepted first after all).
    pub(crate) held_connections: Family<[(&'static str, &'static str); 1], Counter>,
    /// Connections that were denied, by reason: see `culvert_state::Denial::reason`.
    pub(crate) denied_connections: Family<[(&'static str, &'static str); 1], Counter>,
    /// Connections that went direct because their peer's node has no proxy.
    pub(crate) fallback_connections: Counter,
    /// Tunnels that were opened, by role (`client` dialled, `server` accepted) and by how keys were exchanged.
    pub(crate) tunnels_opened: Family<[(&'static str, &'static str); 2], Counter>,
    /// Tunnels that ended before their connections did, by reason: `certificate`, `silent`, `memory` (the peer does not take
    /// what is for it), `idle` (too many without a connection).
    pub(crate) tunnels_given_up: Family<[(&'static str, &'static str); 1], Counter>,
    /// Tunnels that were ended because the peer broke a rule or exceeded a limit, by which: see
    /// `culvert_hbone::ProtocolError::name`.
    pub(crate) peer_violations: Family<[(&'static str, &'static str); 1], Counter>,
}

impl ProxyMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "culvert_ztunnel_local_ports_exhausted",
            "Connections that failed because no local port was free for them inside a pod",
            metrics.local_ports_exhausted.clone(),
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
        registry.register(
            "culvert_ztunnel_held_bytes",
            "Bytes held for applications and peers that do not read",
            metrics.held_bytes.clone(),
        );
        registry.register(
            "culvert_ztunnel_held_limit_bytes",
            "Bytes that may be held",
            metrics.held_limit.clone(),
        );
        registry.register(
            "culvert_ztunnel_shed_connections",
            "Connections that were reset because too much was held",
            metrics.shed_connections.clone(),
        );
        registry.register(
            "culvert_ztunnel_refused_streams",
            "Streams that were refused to peers",
            metrics.refused_streams.clone(),
        );
        registry.register(
            "culvert_ztunnel_held_connections",
            "Connections whose application was answered when their far side was known, by the answer",
            metrics.held_connections.clone(),
        );
        registry.register(
            "culvert_ztunnel_denied_connections",
            "Connections that policy or resolution denied, by reason",
            metrics.denied_connections.clone(),
        );
        registry.register(
            "culvert_ztunnel_fallback_connections",
            "Connections that went direct because no proxy serves their peer's node (culvert.dev/fallback: direct at both ends)",
            metrics.fallback_connections.clone(),
        );
        registry.register(
            "culvert_ztunnel_tunnels_opened",
            "Tunnels that were opened, by the side that this proxy is and by how keys were exchanged",
            metrics.tunnels_opened.clone(),
        );
        registry.register(
            "culvert_ztunnel_tunnels_given_up",
            "Tunnels that took no new connections any more, or were cut, before they were idle",
            metrics.tunnels_given_up.clone(),
        );
        registry.register(
            "culvert_ztunnel_peer_violations",
            "Tunnels that were ended because the peer broke a rule of the protocol or exceeded a limit, by which",
            metrics.peer_violations.clone(),
        );
        metrics.show_zeros();
        metrics
    }

    /// Shows what has not happened yet, so that its first time is an increase.
    fn show_zeros(&self) {
        let of_one = |family: &Family<[(&'static str, &'static str); 1], Counter>, name, values: &[&'static str]| {
            for value in values {
                drop(family.get_or_create(&[(name, *value)]));
            }
        };
        of_one(&self.refused_tunnels, "reason", &["rate", "handshake"]);
        of_one(&self.refused_streams, "reason", &["memory", "streams", "certificate"]);
        of_one(
            &self.tunnels_given_up,
            "reason",
            &["certificate", "silent", "memory", "idle"],
        );
        of_one(&self.denied_connections, "reason", &Denial::REASONS);
        let outcomes = ["met", "refused", "silent", "gone", "unheld"];
        of_one(&self.held_connections, "outcome", &outcomes);
    }
}
