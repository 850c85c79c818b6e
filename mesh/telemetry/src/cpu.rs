//! The process's own time on processors, under the name that Prometheus' client libraries have for it.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter},
    registry::Registry,
};
use rustix::time::{ClockId, clock_gettime};

/// Adds `process_cpu_seconds_total` to a program's metrics: user and system time of all its threads, ended ones too, since it began.
/// It opens no file, so that a process without rights may serve it.
pub fn register_cpu_time(registry: &mut Registry) {
    registry.register_collector(Box::new(CpuTime));
}

#[derive(Debug)]
struct CpuTime;

impl Collector for CpuTime {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let seconds = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
        let help = "User and system time of this process on processors, seconds";
        let metric = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
        ConstCounter::new(seconds).encode(metric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn shown() -> f64 {
        let mut registry = Registry::default();
        register_cpu_time(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("process_cpu_seconds_total "));
        line.unwrap().parse().unwrap()
    }

    #[test]
    fn time_on_a_processor_is_counted_in_seconds() {
        let (before, begun) = (shown(), Instant::now());
        assert!(before > 0.0);
        // Looking takes time, too.
        while shown() <= before {
            assert!(begun.elapsed() < Duration::from_secs(60), "it stays at {before}");
        }
    }
}
