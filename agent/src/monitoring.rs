//! The agent's pages: `/metrics`, `/pods`, `/healthz/ready`.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use culvert_proto::zds::Version;
use culvert_telemetry::{
    Response, Routes,
    prometheus::{
        collector::Collector,
        encoding::{DescriptorEncoder, EncodeMetric},
        metrics::{counter::ConstCounter, gauge::ConstGauge},
        registry::Registry,
    },
};
use tokio::sync::watch;

use crate::{
    enrolment::status::{PodState, Status},
    kernel::Kernel,
};

/// The pages.
pub fn routes(node: String, kernel: Arc<Mutex<Kernel>>, status: watch::Receiver<Arc<Status>>) -> Routes {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Metrics {
        kernel,
        status: status.clone(),
    }));
    let ready = status.clone();
    Routes::new()
        .metrics(Arc::new(registry))
        .get("/pods", move |_| Response::json(&status.borrow().json(&node)))
        .get("/healthz/ready", move |_| match ready.borrow().ready {
            true => Response::text("ready\n"),
            false => Response::status(http::StatusCode::SERVICE_UNAVAILABLE, "pods are not known yet\n"),
        })
}

/// Reads the kernel's counters when asked, so that nothing is counted twice.
struct Metrics {
    kernel: Arc<Mutex<Kernel>>,
    status: watch::Receiver<Arc<Status>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = Arc::clone(&self.status.borrow());
        let states = PodState::ALL.map(|state| {
            let count = status.pods.iter().filter(|pod| pod.state == state).count();
            (vec![("state", state.as_str())], count as u64)
        });
        gauges(&mut encoder, "culvert_agent_pods", "Pods of this node by state", states)?;
        let proxies = [Version::V1, Version::CulvertV1].map(|version| {
            let count = status.proxies.iter().filter(|proxy| proxy.version == version).count();
            (vec![("version", version.as_str_name())], count as u64)
        });
        gauges(
            &mut encoder,
            "culvert_agent_proxies",
            "Proxies connected to the ZDS socket",
            proxies,
        )?;

        let kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = kernel.counters().unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read the kernel's counters");
            Vec::new()
        });
        let help = "What the kernel programs did, by hook and outcome";
        let counter = ConstCounter::new(0_u64);
        let mut family = encoder.encode_descriptor("culvert_agent_kernel_events", help, None, counter.metric_type())?;
        for (hook, outcome, count) in counters {
            let labels = [("hook", hook), ("outcome", outcome)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let maps = kernel.occupancy().unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read the kernel's maps");
            Vec::new()
        });
        let entries = maps.iter().map(|(map, used, _)| (vec![("map", *map)], *used));
        gauges(
            &mut encoder,
            "culvert_agent_map_entries",
            "Entries of the kernel programs' maps",
            entries,
        )?;
        let sizes = maps.iter().map(|(map, _, size)| (vec![("map", *map)], *size));
        gauges(
            &mut encoder,
            "culvert_agent_map_size",
            "Room in the kernel programs' maps",
            sizes,
        )
    }
}

fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Vec<(&'static str, &'static str)>, u64)>,
) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(0_i64);
    let mut family = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
    for (labels, value) in values {
        let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        gauge.encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
