//! Metrics of what is there at the moment, looked at when they are asked for: neither a request nor a change of configuration does anything
//! for them.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use culvert_telemetry::prometheus::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Registry,
};
use parking_lot::Mutex;

use crate::{cluster::Cluster, serve::Open, state::Snapshot, subscriber::Progress};

/// Where it is looked.
#[derive(Debug)]
pub(crate) struct Gauges {
    state: Arc<ArcSwap<Snapshot>>,
    progress: Arc<Progress>,
    threads: Mutex<Vec<Open>>,
}

impl Gauges {
    /// Of no thread yet.
    pub(crate) fn register(
        registry: &mut Registry,
        state: Arc<ArcSwap<Snapshot>>,
        progress: Arc<Progress>,
    ) -> Arc<Self> {
        let threads = Mutex::default();
        let gauges = Arc::new(Self {
            state,
            progress,
            threads,
        });
        registry.register_collector(Box::new(Arc::clone(&gauges)));
        gauges
    }

    /// What is open on another thread counts, too.
    pub(crate) fn follow(&self, open: Open) {
        self.threads.lock().push(open);
    }

    fn open(&self, of: fn(&Open) -> u32) -> i64 {
        self.threads.lock().iter().map(|open| i64::from(of(open))).sum()
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.state.load_full();
        let clusters = |of: fn(&Cluster) -> u32| -> i64 {
            let all = snapshot.clusters.values();
            all.map(|cluster| i64::from(of(cluster))).sum()
        };
        let gauges = [
            (
                "culvert_waypoint_open_tunnels",
                "Tunnels that clients have open",
                self.open(Open::tunnels),
            ),
            (
                "culvert_waypoint_open_connections",
                "Connections inside of clients' tunnels",
                self.open(Open::connections),
            ),
            (
                "culvert_waypoint_open_requests",
                "Requests that are under way",
                self.open(Open::requests),
            ),
            (
                "culvert_waypoint_endpoint_connections",
                "Connections to endpoints",
                clusters(|cluster| cluster.load.connections()),
            ),
            (
                "culvert_waypoint_waiting_requests",
                "Requests that wait for a connection to an endpoint",
                clusters(|cluster| cluster.load.waiting()),
            ),
            (
                "culvert_waypoint_missing_resources",
                "Resources that the configuration refers to and that have not come",
                count(self.progress.missing().len()),
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(gauge)?;
        }
        let (name, help) = (
            "culvert_waypoint_ejected_endpoints",
            "Endpoints that are left out because they failed, by cluster, where there is outlier detection",
        );
        let mut ejected = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (name, cluster) in snapshot.clusters.iter() {
            if cluster.config.outlier.is_some() {
                let labels = [("cluster", &**name)];
                let series = ejected.encode_family(&labels)?;
                ConstGauge::new(count(cluster.ejected())).encode(series)?;
            }
        }
        Ok(())
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use culvert_telemetry::prometheus::encoding::text::encode;

    use super::*;
    use crate::subscriber::Subscriber;

    #[test]
    fn a_waypoint_that_nobody_has_told_anything_says_that_something_is_missing() {
        let mut registry = Registry::default();
        let progress = Subscriber::new(Arc::default(), "shop/wp").progress();
        let gauges = Gauges::register(&mut registry, Arc::default(), progress);
        gauges.follow(Open::default());
        let mut page = String::new();
        encode(&mut page, &registry).unwrap();
        for line in [
            "culvert_waypoint_open_tunnels 0",
            "culvert_waypoint_endpoint_connections 0",
            "culvert_waypoint_missing_resources 1",
            "# TYPE culvert_waypoint_ejected_endpoints gauge",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}: {page}");
        }
    }
}
