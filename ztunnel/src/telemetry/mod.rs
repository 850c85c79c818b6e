//! What is told about connections: metrics, one access log line each, and the list of open ones.
//!
//! ```text
//! loop ── Telemetry::opened(Opening) ──> ConnectionRecord ── publish() now and then ──> TcpSeries, OpenConnection
//!                                              └── close() ──> access log line
//! ```
//!
//! Loops count bytes in plain integers of the record; only [`ConnectionRecord::publish`] touches what others read.
//! Finding a series means comparing some twenty texts, so each thread remembers those that it used ([`series`]); what it
//! remembers costs no lock.

mod access;
mod open;
mod opening;
mod proxy;
mod record;
mod series;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use culvert_telemetry::{prometheus::registry::Registry, tcp::TcpMetrics};

pub(crate) use open::OpenConnection;
pub(crate) use opening::{Direction, Opening, Peer};
pub(crate) use proxy::ProxyMetrics;
pub(crate) use record::ConnectionRecord;

/// Series that have not moved for so long, without an open connection, are no longer shown.
const SERIES_IDLE: Duration = Duration::from_secs(15 * 60);

/// Where all loops and control report to.
#[derive(Debug)]
pub(crate) struct Telemetry {
    tcp: Arc<TcpMetrics>,
    open: open::OpenConnections,
    proxy: ProxyMetrics,
    registry: Arc<Registry>,
}

impl Telemetry {
    /// Nothing has happened yet.
    pub(crate) fn new() -> Arc<Self> {
        let mut registry = Registry::default();
        let tcp = Arc::new(TcpMetrics::new(SERIES_IDLE));
        registry.register_collector(Box::new(Arc::clone(&tcp)));
        let proxy = ProxyMetrics::register(&mut registry);
        Arc::new(Self {
            tcp,
            open: open::OpenConnections::default(),
            proxy,
            registry: Arc::new(registry),
        })
    }

    /// A connection could not be opened, though it was tried for so long: its one access log line, and the count of failures.
    pub(crate) fn failed(&self, opening: &Opening, tried_for: Duration, reason: &(dyn std::fmt::Display + '_)) {
        series::with(&self.tcp, opening, |series| series.fail());
        access::failed(opening, tried_for, reason);
    }

    /// Connections that are open now.
    pub(crate) fn connections(&self) -> Vec<Arc<OpenConnection>> {
        self.open.list()
    }

    /// The proxy's own metrics.
    pub(crate) fn proxy(&self) -> &ProxyMetrics {
        &self.proxy
    }

    /// All metrics, to be served.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    /// Drops series that expired. Control calls it now and then.
    pub(crate) fn sweep(&self) {
        self.tcp.sweep();
    }
}
