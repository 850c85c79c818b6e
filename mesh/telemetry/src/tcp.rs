//! Connection metrics under the names and labels that Istio's dashboards and Kiali expect.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder},
    metrics::MetricType,
};

const UNKNOWN: &str = "unknown";

/// One end of a connection, as labels say it. Empty texts are shown as `unknown`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EndLabels {
    /// The owner of the pod, e.g. a Deployment.
    pub workload: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// `service.istio.io/canonical-name`.
    pub canonical_service: Arc<str>,
    /// `service.istio.io/canonical-revision`.
    pub canonical_revision: Arc<str>,
    /// The identity that a certificate proved.
    pub principal: Arc<str>,
    /// The cluster.
    pub cluster: Arc<str>,
}

/// The labels of one series.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpLabels {
    /// `source` or `destination`: which end counted.
    pub reporter: &'static str,
    /// Who opened the connection.
    pub source: EndLabels,
    /// Who accepted it.
    pub destination: EndLabels,
    /// `namespace/hostname` of the service that was dialled, or empty.
    pub service: Arc<str>,
    /// Whether mutual TLS carried it.
    pub mutual_tls: bool,
}

/// The counters of one set of labels. Whoever reports, sent bytes flow from destination to source and received bytes
/// from source to destination: Istio names them after response and request.
#[derive(Debug, Default)]
pub struct TcpSeries {
    opened: AtomicU64,
    closed: AtomicU64,
    failed: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    /// What the counters summed to when the sweep last looked, and since when (milliseconds after the start).
    seen: AtomicU64,
    since: AtomicU64,
    expired: AtomicBool,
}

/// All series of a program.
#[derive(Debug)]
pub struct TcpMetrics {
    series: Mutex<HashMap<Arc<TcpLabels>, Arc<TcpSeries>>>,
    started: Instant,
    idle: Duration,
}

impl TcpMetrics {
    /// No series. Those without an open connection whose counters have not moved for `idle` expire.
    pub fn new(idle: Duration) -> Self {
        Self {
            series: Mutex::default(),
            started: Instant::now(),
            idle,
        }
    }

    /// The series with these labels, made if there is none. Takes a lock: keep what it returns, until
    /// [`TcpSeries::expired`].
    pub fn series(&self, labels: TcpLabels) -> Arc<TcpSeries> {
        Arc::clone(self.lock().entry(Arc::new(labels)).or_default())
    }

    /// Drops what expired. Call it now and then.
    pub fn sweep(&self) {
        self.sweep_at(self.started.elapsed());
    }

    fn sweep_at(&self, now: Duration) {
        let now = now.as_millis() as u64;
        self.lock().retain(|_, series| {
            let sum = series.sum();
            let open = series.opened.load(Ordering::Relaxed) != series.closed.load(Ordering::Relaxed);
            if open || series.seen.swap(sum, Ordering::Relaxed) != sum {
                series.since.store(now, Ordering::Relaxed);
                return true;
            }
            let keep = now.saturating_sub(series.since.load(Ordering::Relaxed)) < self.idle.as_millis() as u64;
            series.expired.store(!keep, Ordering::Relaxed);
            keep
        });
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<TcpLabels>, Arc<TcpSeries>>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TcpSeries {
    /// A connection was opened.
    pub fn open(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// An opened connection has ended.
    pub fn close(&self) {
        self.closed.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection could not be opened.
    pub fn fail(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes have passed.
    pub fn transferred(&self, sent: u64, received: u64) {
        self.sent.fetch_add(sent, Ordering::Relaxed);
        self.received.fetch_add(received, Ordering::Relaxed);
    }

    /// The series is no longer shown: ask for it anew.
    pub fn expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed)
    }

    /// Counters of one series: opened, closed, failed, sent, received.
    pub fn values(&self) -> [u64; 5] {
        [&self.opened, &self.closed, &self.failed, &self.sent, &self.received].map(|c| c.load(Ordering::Relaxed))
    }

    fn sum(&self) -> u64 {
        self.values().into_iter().fold(0, u64::wrapping_add)
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
        let series: Vec<_> = self
            .lock()
            .iter()
            .map(|(labels, series)| (labels.clone(), series.values()))
            .collect();
        for (index, (name, help)) in COUNTERS.into_iter().enumerate() {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, values) in &series {
                metric
                    .encode_family(&**labels)?
                    .encode_counter::<[(&str, &str); 0], _, u64>(&values[index], None)?;
            }
        }
        Ok(())
    }
}

impl EncodeLabelSet for TcpLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let (namespace, hostname) = self.service.split_once('/').unwrap_or_default();
        let name = hostname.split('.').next().unwrap_or_default();
        let security = if self.mutual_tls { "mutual_tls" } else { "none" };
        label(encoder, "reporter", self.reporter)?;
        let ends = [("source", &self.source), ("destination", &self.destination)];
        for (end, labels) in ends {
            for (key, value) in labels.pairs() {
                label(encoder, &format!("{end}_{key}"), value)?;
            }
        }
        label(encoder, "destination_service", hostname)?;
        label(encoder, "destination_service_name", name)?;
        label(encoder, "destination_service_namespace", namespace)?;
        label(encoder, "request_protocol", "tcp")?;
        label(encoder, "response_flags", "-")?;
        label(encoder, "connection_security_policy", security)
    }
}

impl EndLabels {
    fn pairs(&self) -> [(&'static str, &str); 8] {
        [
            ("workload", &self.workload),
            ("workload_namespace", &self.namespace),
            ("canonical_service", &self.canonical_service),
            ("canonical_revision", &self.canonical_revision),
            ("principal", &self.principal),
            ("app", &self.canonical_service),
            ("version", &self.canonical_revision),
            ("cluster", &self.cluster),
        ]
    }
}

fn label(encoder: &mut LabelSetEncoder<'_>, key: &str, value: &str) -> fmt::Result {
    use prometheus_client::encoding::EncodeLabel as _;
    let value = if value.is_empty() { UNKNOWN } else { value };
    (key, value).encode(encoder.encode_label())
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    fn labels(workload: &str) -> TcpLabels {
        TcpLabels {
            reporter: "source",
            source: EndLabels {
                workload: workload.into(),
                ..EndLabels::default()
            },
            service: "shop/cart.shop.svc.cluster.local".into(),
            mutual_tls: true,
            ..TcpLabels::default()
        }
    }

    #[test]
    fn names_and_labels_are_istios() {
        let metrics = Arc::new(TcpMetrics::new(Duration::from_secs(60)));
        let series = metrics.series(labels("web"));
        series.open();
        series.transferred(7, 11);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Arc::clone(&metrics)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        let opened = line("istio_tcp_connections_opened_total{");
        assert!(opened.ends_with("} 1"), "{opened}");
        assert!(line("istio_tcp_sent_bytes_total{").ends_with("} 7"));
        assert!(line("istio_tcp_received_bytes_total{").ends_with("} 11"));
        for pair in [
            r#"reporter="source""#,
            r#"source_workload="web""#,
            r#"source_principal="unknown""#,
            r#"destination_service="cart.shop.svc.cluster.local""#,
            r#"destination_service_name="cart""#,
            r#"destination_service_namespace="shop""#,
            r#"connection_security_policy="mutual_tls""#,
            r#"request_protocol="tcp""#,
        ] {
            assert!(opened.contains(pair), "{pair} is not in {opened}");
        }
    }

    #[test]
    fn a_series_expires_when_idle_and_never_while_a_connection_is_open() {
        let metrics = TcpMetrics::new(Duration::from_secs(60));
        let (ended, open) = (metrics.series(labels("ended")), metrics.series(labels("open")));
        ended.open();
        ended.close();
        open.open();
        metrics.sweep_at(Duration::from_secs(10));
        metrics.sweep_at(Duration::from_secs(69));
        assert_eq!(metrics.len(), 2);
        metrics.sweep_at(Duration::from_secs(71));
        assert!(ended.expired() && !open.expired());
        assert_eq!(metrics.len(), 1);
        assert!(
            !metrics.series(labels("ended")).expired(),
            "asked for again, there is a new one"
        );
    }
}
