//! What is said of each connection that a proxy carries: metrics, one access log line, and its place in the list of open
//! ones.
//!
//! ```text
//! data path ── Accounting::opened(Opening) ──> ConnectionRecord ── publish() now and then ──> TcpSeries, OpenConnection
//!                                                   └── close() ──> access log line
//! ```
//!
//! Whoever carries a connection counts its bytes in plain integers of the record; only [`ConnectionRecord::publish`]
//! touches what others read. Finding a series means comparing some twenty texts, so each thread remembers those that it
//! used (`series`); what it remembers costs no lock.
//!
//! What somebody else has carried (the kernel, between two pods of a node) is told at its end, by [`Accounting::carried`].
//!
//! Start reading at [`Opening`], which is what all of it is made from.

#![forbid(unsafe_code)]

mod access;
mod carried;
mod lists;
mod open;
mod opening;
mod recent;
mod record;
mod series;

#[cfg(test)]
mod tests;

use std::{
    fmt::Display,
    sync::Arc,
    time::{Duration, Instant},
};

use culvert_telemetry::{
    prometheus::registry::Registry,
    tcp::{ResponseFlags, TcpMetrics, TcpSettings},
};

pub use carried::Carried;
pub use open::OpenConnection;
pub use opening::{Direction, Opening, Peer};
pub use recent::RecentConnection;
pub use record::{CloseReason, ConnectionRecord};

/// Where all that carry connections report to.
#[derive(Debug)]
pub struct Accounting {
    tcp: Arc<TcpMetrics>,
    open: open::OpenConnections,
    recent: recent::RecentConnections,
}

impl Accounting {
    /// Nothing has happened yet. The metrics have Istio's names, whichever program reports.
    pub fn register(registry: &mut Registry, settings: TcpSettings) -> Arc<Self> {
        let tcp = Arc::new(TcpMetrics::new(settings));
        registry.register_collector(Box::new(Arc::clone(&tcp)));
        Arc::new(Self {
            tcp,
            open: open::OpenConnections::default(),
            recent: recent::RecentConnections::default(),
        })
    }

    /// A connection could not be opened, though it was tried for so long: its one access log line, and the count of
    /// failures, under `flags`.
    pub fn failed(&self, opening: &Opening, flags: ResponseFlags, tried_for: Duration, reason: &(dyn Display + '_)) {
        series::with(&self.tcp, opening, flags, |series| series.fail());
        access::failed(opening, tried_for, reason);
    }

    /// Connections that are open now.
    pub fn connections(&self) -> Vec<Arc<OpenConnection>> {
        self.open.list()
    }

    /// Connections that pods of this node have accepted and that have ended within the last hour.
    pub fn recent(&self) -> Vec<RecentConnection> {
        self.recent.list(Instant::now())
    }

    /// Drops series that expired. To be called now and then.
    pub fn sweep(&self) {
        self.tcp.sweep();
    }
}
