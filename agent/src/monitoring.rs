//! The agent's pages: `/metrics`, `/pods`, `/connections` (those past the proxy), `/healthz/ready`; and `/logging`, `/debug/pprof/profile`, `POST /quitquitquit`.

mod standby;

pub use standby::standby_routes;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use culvert_proto::zds::Version;
use culvert_telemetry::{
    Logging, Response, Routes,
    prometheus::{
        collector::Collector,
        encoding::{DescriptorEncoder, EncodeMetric},
        metrics::{counter::ConstCounter, gauge::ConstGauge},
        registry::Registry,
    },
    register_cpu_time,
};
use tokio::sync::watch;

use crate::{
    enrolment::status::{PodState, Status},
    gate,
    kernel::{GuardStatus, Kernel, Kind, PodUsage},
    leaving::Departure,
    legs_page, same_node_metrics, same_node_page,
    source::{PodName, kubernetes::SourceMetrics},
};

/// The pages.
pub fn routes(
    node: String,
    kernel: Arc<Mutex<Kernel>>,
    status: watch::Receiver<Arc<Status>>,
    departure: watch::Receiver<Departure>,
    cluster: Option<Cluster>,
    logging: Logging,
) -> Routes {
    let mut registry = Registry::default();
    register_cpu_time(&mut registry);
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
    let (open, seen) = (Arc::clone(&shown), status.clone());
    let ready = status.clone();
    let gate = cluster.as_ref().and_then(|cluster| cluster.gate.clone());
    let left = departure.clone();
    Routes::new()
        .metrics(Arc::new(registry))
        .logging(logging)
        .profiles()
        .quit()
        .get_local("/pods", move |_| {
            let Departure { leaving, left } = *departure.borrow();
            let mut page = status.borrow().json(&node);
            page["leaving"] = leaving.into();
            page["left"] = left.into();
            page["programs"] = programs(&shown);
            page["problems"] = status.borrow().problems().into();
            add_kernels_view(&mut page, &shown);
            page["local_legs"] = legs_page::of(&shown);
            page["same_node"] = same_node_metrics::page(&shown);
            if let Some(gate) = &gate {
                page["cni"] = gate.json();
            }
            Response::json(&page)
        })
        .get_local("/connections", move |_| {
            let status = Arc::clone(&seen.borrow());
            same_node_page::of(&open, &status)
        })
        .get(crate::leaving::announce::PAGE, move |_| match left.borrow().left {
            true => Response::text("no pod of this node is in the mesh any more\n"),
            false => Response::status(http::StatusCode::SERVICE_UNAVAILABLE, "not yet\n".to_owned()),
        })
        .get("/healthz/live", |_| Response::text("alive\n"))
        .get("/healthz/ready", move |_| {
            let mut missing = cluster.as_ref().map(Cluster::missing).unwrap_or_default();
            let status = ready.borrow().clone();
            if !status.ready && missing.is_empty() {
                missing.push("pods are not known yet".to_owned());
            }
            let failed = status.upkeep.failed.iter();
            missing
                .extend(failed.map(|found| format!("{} is not as it should be: {}", found.kind.as_str(), found.what)));
            match missing.is_empty() {
                true => Response::text("ready\n"),
                false => Response::status(
                    http::StatusCode::SERVICE_UNAVAILABLE,
                    format!("{}\n", missing.join("\n")),
                ),
            }
        })
}

/// Adds to each pod what the kernel knows of it, and says which have as many connections being opened as they may.
fn add_kernels_view(page: &mut serde_json::Value, kernel: &Mutex<Kernel>) {
    let kernel = kernel.lock().unwrap_or_else(PoisonError::into_inner);
    let mut problems = Vec::new();
    for pod in page["pods"].as_array_mut().into_iter().flatten() {
        let Some(cookie) = pod["cookie"].as_u64() else { continue };
        if pod["state"] == PodState::Captured.as_str() {
            pod["attached"] = kernel.is_attached_to(cookie).unwrap_or(false).into();
        }
        pod["guard"] = guard(&kernel.guard_status(cookie).unwrap_or_default());
        let PodUsage {
            opening,
            denied,
            direct_out,
            direct_in,
        } = kernel.usage(cookie).unwrap_or_default();
        pod["connections_opening"] = opening.into();
        pod["denied_over_share"] = denied.into();
        pod["direct"] = serde_json::json!({ "opened": direct_out, "received": direct_in });
        if opening >= kernel.share() {
            let name = |key: &str| pod[key].as_str().unwrap_or_default().to_owned();
            problems.push(format!(
                "pod {}/{} has {opening} connections being opened, as many as one pod may: further ones are denied ({denied} so far)",
                name("namespace"),
                name("name"),
            ));
        }
    }
    if let Some(all) = page["problems"].as_array_mut() {
        all.extend(problems.into_iter().map(Into::into));
    }
}

/// A pod's guard; null where there is none, and nothing is wrong with that.
fn guard(status: &GuardStatus) -> serde_json::Value {
    if *status == GuardStatus::default() {
        return serde_json::Value::Null;
    }
    let strictness = status.strictness.as_ref();
    serde_json::json!({
        "interfaces": status.interfaces,
        "strict": strictness.map(|strictness| strictness.strict),
        "exceptions": strictness.map(|strictness| strictness.exceptions.iter().copied().collect::<Vec<u16>>()),
        "dropped": status.dropped,
        "problem": status.problem,
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

        let mut kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
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
        )?;
        self.pods(&mut encoder, &status, &kernel)?;
        same_node_metrics::encode(&mut encoder, &status, &mut kernel)?;
        upkeep(&mut encoder, &status)
    }
}

impl Metrics {
    /// Pods that have something to show: all of them would be a series for each pod of the node.
    fn pods(&self, encoder: &mut DescriptorEncoder<'_>, status: &Status, kernel: &Kernel) -> Result<(), fmt::Error> {
        let usage = status.pods.iter().filter_map(|pod| {
            let usage = kernel.usage(pod.cookie?).ok()?;
            (usage != PodUsage::default()).then_some((&pod.name, usage))
        });
        let usage: Vec<_> = usage.collect();
        let help = "Captured connections of a pod that are being opened; of pods that have any";
        let gauge = ConstGauge::new(0_i64);
        let mut family = encoder.encode_descriptor("culvert_agent_pod_flows", help, None, gauge.metric_type())?;
        for (name, usage) in &usage {
            let gauge = ConstGauge::new(i64::try_from(usage.opening).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(&pod_labels(name))?)?;
        }
        let help = "Connections of a pod that were denied because it had its share of the map of flows";
        let counter = ConstCounter::new(0_u64);
        let name = "culvert_agent_pod_flows_denied";
        let mut family = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
        for (name, usage) in usage.iter().filter(|(_, usage)| usage.denied > 0) {
            ConstCounter::new(usage.denied).encode(family.encode_family(&pod_labels(name))?)?;
        }
        direct(encoder, status, &usage)?;
        guards(encoder, status, kernel)?;
        existing(encoder, status)
    }
}

/// Connections that went direct because no proxy served, of pods that had any, and how many pods go without a proxy now.
fn direct(
    encoder: &mut DescriptorEncoder<'_>,
    status: &Status,
    usage: &[(&PodName, PodUsage)],
) -> Result<(), fmt::Error> {
    let help = "New connections of a pod that went direct because no proxy served (culvert.dev/fallback: direct)";
    let counter = ConstCounter::new(0_u64);
    let name = "culvert_agent_fallback_connections";
    let mut family = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
    for (name, usage) in usage {
        let [namespace, pod] = pod_labels(name);
        for (direction, count) in [("outbound", usage.direct_out), ("inbound", usage.direct_in)] {
            if count > 0 {
                let labels = [namespace, pod, ("direction", direction)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    let help = "Connections that were reset, because no proxy came in time to carry them";
    let counter = ConstCounter::new(status.reset);
    let name = "culvert_agent_connections_reset";
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
    let help = "Pods that go without a proxy, because none serves and they may";
    let pods = [(Vec::new(), status.direct.pods() as u64)];
    gauges(encoder, "culvert_agent_pods_in_fallback", help, pods)
}

/// What guards have dropped, of pods of which they have dropped something, and how many pods are captured and not guarded.
fn guards(encoder: &mut DescriptorEncoder<'_>, status: &Status, kernel: &Kernel) -> Result<(), fmt::Error> {
    let captured = status.pods.iter().filter(|pod| pod.state == PodState::Captured);
    let guarded = captured.filter_map(|pod| Some((&pod.name, kernel.guard_status(pod.cookie?).ok()?)));
    let guarded: Vec<(&PodName, GuardStatus)> = guarded.collect();
    let help = "Packets dropped on a pod's link that would have opened a connection past the tunnel to a strict port";
    let counter = ConstCounter::new(0_u64);
    let mut family = encoder.encode_descriptor("culvert_agent_guard_drops", help, None, counter.metric_type())?;
    for (name, guard) in guarded.iter().filter(|(_, guard)| guard.dropped > 0) {
        ConstCounter::new(guard.dropped).encode(family.encode_family(&pod_labels(name))?)?;
    }
    let without = guarded
        .iter()
        .filter(|(_, guard)| guard.interfaces == 0 || guard.problem.is_some());
    let help = "Captured pods of which an interface is not guarded";
    gauges(
        encoder,
        "culvert_agent_pods_unguarded",
        help,
        [(Vec::new(), without.count() as u64)],
    )
}

/// Connections from before capture, of pods that have any.
fn existing(encoder: &mut DescriptorEncoder<'_>, status: &Status) -> Result<(), fmt::Error> {
    let help = "Connections that a pod had open before it was captured, and that are still open, in plaintext";
    let gauge = ConstGauge::new(0_i64);
    let name = "culvert_agent_connections_before_capture";
    let mut family = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
    for pod in &status.pods {
        if let Some(existing) = status.existing.get(&pod.uid).filter(|existing| existing.found > 0) {
            let gauge = ConstGauge::new(i64::try_from(existing.open.len()).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(&pod_labels(&pod.name))?)?;
        }
    }
    let help = "Connections from before capture that were closed, because their namespace asks for it";
    let counter = ConstCounter::new(status.closed);
    let name = "culvert_agent_connections_closed";
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
}

fn pod_labels(name: &PodName) -> [(&'static str, &str); 2] {
    [("namespace", name.namespace.as_str()), ("pod", name.name.as_str())]
}

fn upkeep(encoder: &mut DescriptorEncoder<'_>, status: &Status) -> Result<(), fmt::Error> {
    let help = "What was not as it should be and was repaired: pins, links, entries of maps, listeners, settings";
    let counter = ConstCounter::new(0_u64);
    let mut family = encoder.encode_descriptor("culvert_agent_repairs", help, None, counter.metric_type())?;
    for kind in Kind::ALL {
        let count = status.upkeep.repaired.get(kind.as_str()).copied().unwrap_or_default();
        ConstCounter::new(count).encode(family.encode_family(&[("kind", kind.as_str())])?)?;
    }
    let faults = Kind::ALL.map(|kind| {
        let count = status.upkeep.failed.iter().filter(|found| found.kind == kind).count();
        (vec![("kind", kind.as_str())], count as u64)
    });
    gauges(
        encoder,
        "culvert_agent_faults",
        "What is not as it should be and could not be repaired",
        faults,
    )?;
    let others = u64::from(status.takeover.is_some());
    gauges(
        encoder,
        "culvert_agent_takeover_pending",
        "1 while programs of an earlier agent are in force beside this one's",
        [(Vec::new(), others)],
    )
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
