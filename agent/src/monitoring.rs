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
        metrics::{
            counter::ConstCounter,
            gauge::{ConstGauge, Gauge},
        },
        registry::Registry,
    },
};
use tokio::sync::watch;

use crate::{
    enrolment::status::{PodState, Status},
    gate,
    kernel::Kernel,
    leaving::Departure,
    source::kubernetes::SourceMetrics,
};

/// The pages.
pub fn routes(
    node: String,
    kernel: Arc<Mutex<Kernel>>,
    status: watch::Receiver<Arc<Status>>,
    departure: watch::Receiver<Departure>,
    cluster: Option<Cluster>,
) -> Routes {
    let mut registry = Registry::default();
    if let Some(cluster) = &cluster {
        registry.register_collector(Box::new(cluster.source.clone()));
        if let Some(gate) = &cluster.gate {
            gate.register(&mut registry);
        }
    }
    let shown = Arc::clone(&kernel);
    registry.register_collector(Box::new(Metrics {
        kernel,
        status: status.clone(),
    }));
    let ready = status.clone();
    let gate = cluster.as_ref().and_then(|cluster| cluster.gate.clone());
    let left = departure.clone();
    Routes::new()
        .metrics(Arc::new(registry))
        .get_local("/pods", move |_| {
            let Departure { leaving, left } = *departure.borrow();
            let mut page = status.borrow().json(&node);
            page["leaving"] = leaving.into();
            page["left"] = left.into();
            page["programs"] = programs(&shown);
            if let Some(gate) = &gate {
                page["cni"] = gate.json();
            }
            Response::json(&page)
        })
        .get(crate::leaving::announce::PAGE, move |_| match left.borrow().left {
            true => Response::text("no pod of this node is in the mesh any more\n"),
            false => Response::status(http::StatusCode::SERVICE_UNAVAILABLE, "not yet\n".to_owned()),
        })
        .get("/healthz/live", |_| Response::text("alive\n"))
        .get("/healthz/ready", move |_| {
            let mut missing = cluster.as_ref().map(Cluster::missing).unwrap_or_default();
            if !ready.borrow().ready && missing.is_empty() {
                missing.push("pods are not known yet".to_owned());
            }
            match missing.is_empty() {
                true => Response::text("ready\n"),
                false => Response::status(
                    http::StatusCode::SERVICE_UNAVAILABLE,
                    format!("{}\n", missing.join("\n")),
                ),
            }
        })
}

fn programs(kernel: &Mutex<Kernel>) -> serde_json::Value {
    let attached = kernel.lock().unwrap_or_else(PoisonError::into_inner).attached();
    let shown = attached
        .into_iter()
        .map(|(name, attached)| serde_json::json!({ "name": name, "attached": attached }));
    shown.collect()
}

/// What there is to show on Kubernetes alone.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// How well the API server is followed.
    pub source: SourceMetrics,
    /// The CNI gate; absent with `--no-cni`.
    pub gate: Option<gate::Shown>,
}

impl Cluster {
    /// What the agent waits for before it is ready, in words.
    fn missing(&self) -> Vec<String> {
        let gate = self.gate.as_ref().filter(|gate| !gate.is_removed());
        let problem = gate.and_then(gate::Shown::problem);
        self.source.missing().into_iter().chain(problem).collect()
    }
}

/// The pages of an agent that stands by (see [`crate::lock`]) while another one serves the node. `obstacle` says why it could not
/// take over; none when it could.
pub fn standby_routes(node: &str, by: &str, obstacle: watch::Receiver<Option<String>>) -> Routes {
    let standby = serde_json::json!({ "node": node, "ready": true, "standby": by, "pods": [], "proxies": [] });
    let mut registry = Registry::default();
    let gauge = Gauge::<i64>::default();
    gauge.set(1);
    registry.register("culvert_agent_standby", "1 while another agent serves this node", gauge);
    let shown = obstacle.clone();
    Routes::new()
        .metrics(Arc::new(registry))
        .get("/healthz/live", |_| Response::text("alive\n"))
        .get_local("/pods", move |_| {
            let mut page = standby.clone();
            let obstacle = shown.borrow().clone();
            page["ready"] = obstacle.is_none().into();
            page["obstacle"] = obstacle.into();
            Response::json(&page)
        })
        .get("/healthz/ready", move |_| match &*obstacle.borrow() {
            None => Response::text("ready: standing by for another agent of this node\n"),
            Some(obstacle) => Response::status(
                http::StatusCode::SERVICE_UNAVAILABLE,
                format!("standing by for another agent of this node, and could not take over: {obstacle}\n"),
            ),
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
