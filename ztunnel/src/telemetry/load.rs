//! What the loops have open: tunnels, their streams, and connections that wait.

use culvert_telemetry::prometheus::{
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

/// What one loop has open, as it last looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Tunnels that carry streams or may: dialled, accepted.
    pub(crate) tunnels: [i64; 2],
    /// Their streams: of those that were dialled, of those that were accepted.
    pub(crate) streams: [i64; 2],
    /// Tunnels that are being opened.
    pub(crate) opening: i64,
    /// Connections that wait for a tunnel.
    pub(crate) queued: i64,
    /// Connections that wait until something is known: configuration, a policy, a certificate.
    pub(crate) parked: i64,
    /// Connections that carry bytes.
    pub(crate) open: i64,
}

const ROLES: [&str; 2] = ["client", "server"];

/// The sum over all loops.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoadMetrics {
    tunnels: Family<[(&'static str, &'static str); 1], Gauge>,
    streams: Family<[(&'static str, &'static str); 1], Gauge>,
    opening: Gauge,
    waiting: Family<[(&'static str, &'static str); 1], Gauge>,
    open: Gauge,
}

impl LoadMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "culvert_ztunnel_tunnels",
            "Tunnels that are open, by the side that this proxy is",
            metrics.tunnels.clone(),
        );
        registry.register(
            "culvert_ztunnel_tunnel_streams",
            "Streams on open tunnels, by the side that this proxy is",
            metrics.streams.clone(),
        );
        registry.register(
            "culvert_ztunnel_tunnels_opening",
            "Tunnels that are being opened",
            metrics.opening.clone(),
        );
        registry.register(
            "culvert_ztunnel_waiting_connections",
            "Connections that are not open yet, by what they wait for",
            metrics.waiting.clone(),
        );
        registry.register(
            "culvert_ztunnel_open_connections",
            "Connections that are open",
            metrics.open.clone(),
        );
        metrics.replace(Load::default(), Load::default());
        metrics
    }

    /// Connections that carry bytes, in all loops.
    pub(crate) fn open(&self) -> i64 {
        self.open.get()
    }

    /// A loop that had `before` has `now`.
    pub(crate) fn replace(&self, before: Load, now: Load) {
        for (index, role) in ROLES.into_iter().enumerate() {
            let of_role = |family: &Family<_, Gauge>, change| family.get_or_create(&[("role", role)]).inc_by(change);
            of_role(&self.tunnels, now.tunnels[index] - before.tunnels[index]);
            of_role(&self.streams, now.streams[index] - before.streams[index]);
        }
        self.opening.inc_by(now.opening - before.opening);
        self.open.inc_by(now.open - before.open);
        let waits = |what, change| self.waiting.get_or_create(&[("for", what)]).inc_by(change);
        waits("tunnel", now.queued - before.queued);
        waits("configuration", now.parked - before.parked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_are_added_up_and_each_replaces_its_own_part_alone() {
        let metrics = LoadMetrics::default();
        let load = |tunnels, queued| Load {
            tunnels,
            queued,
            ..Load::default()
        };
        metrics.replace(Load::default(), load([2, 1], 5));
        metrics.replace(Load::default(), load([3, 0], 1));
        metrics.replace(load([2, 1], 5), load([1, 1], 0));
        let tunnels = |role| metrics.tunnels.get_or_create(&[("role", role)]).get();
        assert_eq!((tunnels("client"), tunnels("server")), (4, 1));
        assert_eq!(metrics.waiting.get_or_create(&[("for", "tunnel")]).get(), 1);
    }
}
