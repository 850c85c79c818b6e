//! Connection metrics under the names and labels that Istio's dashboards and Kiali expect.
//!
//! | module | what |
//! |---|---|
//! | `labels` | what is said of a connection, as Istio's labels |
//! | `selection` | which of them are left out, by the operator's choice |
//! | `series` | the counters of one set of labels |
//!
//! A series is found by the values that are shown, so that leaving a label out makes one series of those that differ in it
//! alone. There are never more series than a limit and a handful: what comes beyond is counted in a series of its own, whose
//! labels say `overflow`.

mod labels;
mod selection;
mod series;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabel as _, EncodeLabelSet, EncodeMetric as _, LabelSetEncoder},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use labels::Values;
pub use labels::{EndLabels, ResponseFlags, SecurityPolicy, TcpLabels, label_names};
pub use selection::{DroppedLabels, LabelError};
pub use series::TcpSeries;

/// How connection metrics are kept.
#[derive(Clone, Debug)]
pub struct TcpSettings {
    /// Labels that are left out.
    pub dropped: DroppedLabels,
    /// How many series there may be before new ones are counted together.
    pub limit: usize,
    /// Series without an open connection whose counters have not moved for so long expire.
    pub idle: Duration,
}

/// All series of a program.
#[derive(Debug)]
pub struct TcpMetrics {
    table: Mutex<Table>,
    started: Instant,
    settings: TcpSettings,
}

#[derive(Debug, Default)]
struct Table {
    series: HashMap<Arc<Values>, Arc<TcpSeries>>,
    /// How often a series was wanted for which there was no room.
    overflowed: u64,
    /// That there is no room has been logged.
    is_full: bool,
}

impl Default for TcpSettings {
    /// All labels, as Istio has them, and series enough for a busy node.
    fn default() -> Self {
        Self {
            dropped: DroppedLabels::default(),
            limit: 10_000,
            idle: Duration::from_secs(15 * 60),
        }
    }
}

impl TcpMetrics {
    /// No series.
    pub fn new(settings: TcpSettings) -> Self {
        Self {
            table: Mutex::default(),
            started: Instant::now(),
            settings,
        }
    }

    /// The series with these labels, made if there is none. Takes a lock: keep what it returns, until
    /// [`TcpSeries::expired`].
    pub fn series(&self, labels: &TcpLabels) -> Arc<TcpSeries> {
        let values = labels.values(|name| !self.settings.dropped.contains(name));
        let mut table = self.lock();
        if let Some(known) = table.series.get(&values) {
            return Arc::clone(known);
        }
        if table.series.len() < self.settings.limit {
            return Arc::clone(table.series.entry(Arc::new(values)).or_default());
        }
        table.overflowed += 1;
        if !std::mem::replace(&mut table.is_full, true) {
            let limit = self.settings.limit;
            tracing::warn!(
                limit,
                "there are as many metric series as there may be: new ones are counted together, with labels that say `overflow`"
            );
        }
        let together = labels::overflowing(&values);
        Arc::clone(table.series.entry(Arc::new(together)).or_default())
    }

    /// Drops what expired. Call it now and then.
    pub fn sweep(&self) {
        self.sweep_at(self.started.elapsed());
    }

    fn sweep_at(&self, now: Duration) {
        let mut table = self.lock();
        table.series.retain(|_, series| series.lives(now, self.settings.idle));
        table.is_full &= table.series.len() >= self.settings.limit;
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.lock().series.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names, with what they count. The encoder adds `_total`.
const COUNTERS: [(&str, &str); 5] = [
    ("istio_tcp_connections_opened", "Connections opened"),
    ("istio_tcp_connections_closed", "Connections closed"),
    ("istio_tcp_connections_failed", "Connections that could not be opened"),
    ("istio_tcp_sent_bytes", "Bytes from destination to source"),
    ("istio_tcp_received_bytes", "Bytes from source to destination"),
];

impl Collector for TcpMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (series, overflowed) = {
            let table = self.lock();
            let values = table.series.iter().map(|(labels, one)| (labels.clone(), one.values()));
            (values.collect::<Vec<_>>(), table.overflowed)
        };
        for (index, (name, help)) in COUNTERS.into_iter().enumerate() {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, values) in &series {
                metric
                    .encode_family(&Shown(labels))?
                    .encode_counter::<[(&str, &str); 0], _, u64>(&values[index], None)?;
            }
        }
        let gauges = [
            ("culvert_tcp_series", "Series of connection metrics", series.len()),
            (
                "culvert_tcp_series_limit",
                "How many there may be before new ones are counted together",
                self.settings.limit,
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let help = "Times that a series was wanted for which there was no room";
        let metric = encoder.encode_descriptor("culvert_tcp_series_overflows", help, None, MetricType::Counter)?;
        ConstCounter::new(overflowed).encode(metric)
    }
}

/// Values with their names.
struct Shown<'a>(&'a Values);

impl EncodeLabelSet for Shown<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in label_names().iter().zip(self.0) {
            if let Some(value) = value {
                (*name, &**value).encode(encoder.encode_label())?;
            }
        }
        Ok(())
    }
}
