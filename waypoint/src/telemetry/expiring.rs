//! Series that go when nobody is counted in them any longer.
//!
//! Some labels are what clients say of themselves, so that anybody in the mesh could make as many series as there are words: there is a limit,
//! beyond which requests are counted together.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use culvert_telemetry::{
    names::OVERFLOW,
    prometheus::{
        encoding::{EncodeMetric, MetricEncoder},
        metrics::{MetricType, TypedMetric, counter::Counter},
    },
};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::config::metrics::LabelName;

/// Series of one metric before new ones are counted together: as many as a node proxy has.
pub(super) const LIMIT: usize = 10_000;

/// How long a series stays that nobody holds: as at a node proxy.
pub(super) const IDLE: Duration = Duration::from_secs(15 * 60);

/// Labels that have few values by their nature, and keep them where others are counted together.
const FEW_VALUES: [&str; 4] = [
    "reporter",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
];

/// Names and values, in Istio's order.
pub(super) type Labels = Vec<(LabelName, Arc<str>)>;

/// The series of one metric. Copies share them.
#[derive(Clone, Debug)]
pub(super) struct Expiring<M>(Arc<Inner<M>>);

#[derive(Debug)]
struct Inner<M> {
    make: fn() -> M,
    limit: usize,
    /// How often a series was wanted for which there was no room.
    overflows: Counter,
    series: Mutex<FxHashMap<Labels, Kept<M>>>,
}

#[derive(Debug)]
struct Kept<M> {
    metric: Arc<M>,
    /// When somebody held it last, as far as it was looked at.
    held: Instant,
}

impl<M> Expiring<M> {
    /// No series.
    pub(super) fn new(make: fn() -> M, limit: usize, overflows: Counter) -> Self {
        Self(Arc::new(Inner {
            make,
            limit,
            overflows,
            series: Mutex::default(),
        }))
    }

    /// The series with these labels, made if there is none. It stays for as long as what is returned is held, and [`IDLE`] longer.
    pub(super) fn get(&self, labels: &Labels) -> Arc<M> {
        let Inner {
            make,
            limit,
            overflows,
            series,
        } = &*self.0;
        let mut series = series.lock();
        let held = Instant::now();
        if let Some(kept) = series.get_mut(labels) {
            kept.held = held;
            return Arc::clone(&kept.metric);
        }
        let labels = if series.len() < *limit {
            labels.clone()
        } else {
            if overflows.inc() == 0 {
                tracing::warn!(
                    limit,
                    "there are as many series of a metric as there may be: new ones are counted together, with labels that say `overflow`"
                );
            }
            together(labels)
        };
        let kept = series.entry(labels).or_insert_with(|| Kept {
            metric: Arc::new(make()),
            held,
        });
        kept.held = held;
        Arc::clone(&kept.metric)
    }

    /// Drops what nobody has held for [`IDLE`]. To be called now and then.
    pub(super) fn sweep(&self, now: Instant) {
        self.0.series.lock().retain(|_, kept| {
            if Arc::strong_count(&kept.metric) > 1 {
                kept.held = now;
            }
            now.saturating_duration_since(kept.held) < IDLE
        });
    }
}

/// The same labels with one text in place of all that could be many.
fn together(labels: &Labels) -> Labels {
    let overflow: Arc<str> = OVERFLOW.into();
    let labels = labels.iter().map(|(name, value)| {
        let is_few = FEW_VALUES.contains(&&**name);
        (name.clone(), Arc::clone(if is_few { value } else { &overflow }))
    });
    labels.collect()
}

impl<M: EncodeMetric + TypedMetric> EncodeMetric for Expiring<M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let series = self.0.series.lock();
        series
            .iter()
            .try_for_each(|(labels, kept)| kept.metric.encode(encoder.encode_family(labels)?))
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }

    fn is_empty(&self) -> bool {
        self.0.series.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(workload: &str) -> Labels {
        vec![
            ("reporter".into(), "waypoint".into()),
            ("source_workload".into(), workload.into()),
        ]
    }

    fn shown(series: &Expiring<Counter>) -> Vec<String> {
        let series = series.0.series.lock();
        let mut shown: Vec<_> = series.keys().map(|labels| labels[1].1.to_string()).collect();
        shown.sort();
        shown
    }

    #[test]
    fn a_series_goes_when_nobody_has_held_it_for_long_and_never_before() {
        let series = Expiring::new(Counter::default, LIMIT, Counter::default());
        let start = Instant::now();
        let held = series.get(&labels("held"));
        drop(series.get(&labels("left")));
        series.sweep(start + IDLE / 2);
        assert_eq!(shown(&series), ["held", "left"]);
        series.sweep(start + IDLE * 2);
        assert_eq!(shown(&series), ["held"]);
        drop(held);
        series.sweep(start + IDLE * 3 - Duration::from_secs(1));
        assert_eq!(shown(&series), ["held"]);
        series.sweep(start + IDLE * 3);
        assert!(series.is_empty());
    }

    #[test]
    fn what_finds_no_room_is_counted_together_and_what_was_there_stays() {
        let overflows = Counter::default();
        let series = Expiring::new(Counter::default, 2, overflows.clone());
        for workload in ["one", "two", "three", "four", "one"] {
            series.get(&labels(workload)).inc();
        }
        assert_eq!(shown(&series), ["one", OVERFLOW, "two"]);
        assert_eq!(series.get(&labels("one")).get(), 2);
        assert_eq!(series.get(&labels(OVERFLOW)).get(), 2);
        assert_eq!(overflows.get(), 2);
    }
}
