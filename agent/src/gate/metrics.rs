//! What the gate counts.

use std::{fmt, sync::atomic::AtomicU64, time::Duration};

use culvert_telemetry::prometheus::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::Registry,
};
use tokio::sync::watch;

use super::install::Standing;

/// Upper bounds of the histogram's buckets, in seconds.
const SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0];

/// What became of a pod that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It started, outside the mesh.
    Outside,
    /// It started when it was captured.
    Captured,
    /// It started, although nobody could say whether it is wanted: its namespace is not enrolled.
    Unjudged,
    /// It cannot be captured as it is.
    Refused,
    /// It was not captured in time.
    Late,
    /// The API server does not know it.
    UnknownPod,
    /// Nobody could say whether it is wanted, and its namespace is enrolled.
    Undecided,
}

impl Outcome {
    const ALL: [Self; 7] = [
        Self::Outside,
        Self::Captured,
        Self::Unjudged,
        Self::Refused,
        Self::Late,
        Self::UnknownPod,
        Self::Undecided,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Outside => "outside",
            Self::Captured => "captured",
            Self::Unjudged => "unjudged",
            Self::Refused => "refused",
            Self::Late => "late",
            Self::UnknownPod => "unknown_pod",
            Self::Undecided => "undecided",
        }
    }
}

/// The counters. Cloning is not needed: one value is shared.
#[derive(Debug)]
pub struct Metrics {
    arrivals: Family<[(&'static str, &'static str); 1], Counter<u64, AtomicU64>>,
    departures: Counter,
    misunderstood: Counter,
    capture: Histogram,
    waiting: Gauge,
}

/// A pod is waiting as long as this lives.
#[derive(Debug)]
pub struct Waiting<'a>(&'a Gauge);

impl Default for Metrics {
    fn default() -> Self {
        let arrivals = Family::default();
        for outcome in Outcome::ALL {
            drop(arrivals.get_or_create(&[("outcome", outcome.as_str())]));
        }
        Self {
            arrivals,
            departures: Counter::default(),
            misunderstood: Counter::default(),
            capture: Histogram::new(SECONDS),
            waiting: Gauge::default(),
        }
    }
}

impl Metrics {
    /// A pod arrives.
    pub fn waiting(&self) -> Waiting<'_> {
        self.waiting.inc();
        Waiting(&self.waiting)
    }

    /// It has been answered.
    pub fn arrived(&self, outcome: Outcome, after: Duration) {
        self.arrivals.get_or_create(&[("outcome", outcome.as_str())]).inc();
        if outcome == Outcome::Captured {
            self.capture.observe(after.as_secs_f64());
        }
    }

    /// How many pods had this outcome.
    pub fn arrivals(&self, outcome: Outcome) -> u64 {
        self.arrivals.get_or_create(&[("outcome", outcome.as_str())]).get()
    }

    /// A sandbox has gone.
    pub fn left(&self) {
        self.departures.inc();
    }

    /// A request made no sense.
    pub fn misunderstood(&self) {
        self.misunderstood.inc();
    }

    pub(super) fn register(&self, registry: &mut Registry, standing: watch::Receiver<Standing>) {
        registry.register(
            "culvert_agent_cni_arrivals",
            "New pods that the CNI plug-in asked about, by what became of them",
            self.arrivals.clone(),
        );
        registry.register(
            "culvert_agent_cni_departures",
            "Sandboxes that the CNI plug-in told the end of",
            self.departures.clone(),
        );
        registry.register(
            "culvert_agent_cni_misunderstood",
            "Requests of the CNI plug-in that made no sense",
            self.misunderstood.clone(),
        );
        registry.register(
            "culvert_agent_cni_capture_seconds",
            "How long new pods waited until they were captured",
            self.capture.clone(),
        );
        registry.register(
            "culvert_agent_cni_waiting",
            "New pods that wait to be captured",
            self.waiting.clone(),
        );
        registry.register_collector(Box::new(InPlace(standing)));
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Whether the plug-in is installed, asked when it is shown.
#[derive(Debug)]
struct InPlace(watch::Receiver<Standing>);

impl Collector for InPlace {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let gauge = ConstGauge::new(i64::from(self.0.borrow().is_installed()));
        let help = "Whether the CNI plug-in stands in the node's CNI configuration";
        let metric = encoder.encode_descriptor("culvert_agent_cni_installed", help, None, gauge.metric_type())?;
        gauge.encode(metric)
    }
}
