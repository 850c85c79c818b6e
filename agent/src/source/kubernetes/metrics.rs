//! The source's metrics and its part of readiness.

use std::{fmt, sync::Arc};

use culvert_telemetry::prometheus::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use super::{
    health::{WatchState, Watched},
    shared::Shared,
};

/// Reads the source's counters when asked. Cheap to clone; register one as a collector, keep another for readiness.
#[derive(Clone, Debug)]
pub struct SourceMetrics {
    shared: Arc<Shared>,
}

impl SourceMetrics {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// What has not been heard of yet, in words; empty when the agent may be called ready.
    pub fn missing(&self) -> Vec<String> {
        if self.shared.out.borrow().is_some() {
            return Vec::new();
        }
        self.shared.read(|book| book.missing())
    }

    fn watches(&self) -> [(&'static str, WatchState); 2] {
        [("pods", Watched::Pods), ("namespaces", Watched::Namespaces)]
            .map(|(name, what)| (name, self.shared.health.state(what)))
    }
}

impl Collector for SourceMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let watches = self.watches();
        let connected = watches.map(|(watch, state)| ("watch", watch, f64::from(u8::from(state.is_connected))));
        let help = "Whether the API server is being watched";
        gauges(&mut encoder, "culvert_agent_watch_connected", help, connected)?;
        let ages = watches.iter().filter_map(|(watch, state)| {
            let age = state.age?;
            Some(("watch", *watch, age.as_secs_f64()))
        });
        let help = "Seconds since the API server last told something";
        gauges(&mut encoder, "culvert_agent_watch_event_age_seconds", help, ages)?;
        let failures = watches.map(|(watch, state)| ("watch", watch, state.failures));
        counters(
            &mut encoder,
            "culvert_agent_watch_failures",
            "Watches that ended with an error",
            failures,
        )?;
        let located = self.shared.locator.counts();
        let calls = [
            ("outcome", "ok", located.calls - located.failures),
            ("outcome", "failed", located.failures),
        ];
        counters(
            &mut encoder,
            "culvert_agent_cri_calls",
            "Calls of the container runtime",
            calls,
        )?;
        let found = [
            ("by", "gate", self.shared.health.by_gate()),
            ("by", "cri", located.by_cri),
            ("by", "proc", located.by_proc),
        ];
        let help = "Network namespaces found, by who knew them";
        counters(&mut encoder, "culvert_agent_netns_found", help, found)
    }
}

type Labelled<T> = (&'static str, &'static str, T);

fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = Labelled<f64>>,
) -> Result<(), fmt::Error> {
    let kind = ConstGauge::new(0.0_f64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (label, value, gauge) in values {
        ConstGauge::new(gauge).encode(family.encode_family(&[(label, value)])?)?;
    }
    Ok(())
}

fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = Labelled<u64>>,
) -> Result<(), fmt::Error> {
    let kind = ConstCounter::new(0_u64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (label, value, count) in values {
        ConstCounter::new(count).encode(family.encode_family(&[(label, value)])?)?;
    }
    Ok(())
}
