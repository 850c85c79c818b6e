//! One open connection, as whoever carries it counts it.

use std::{
    fmt::Display,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use culvert_telemetry::tcp::{ResponseFlags, TcpSeries};

use crate::{
    Accounting, OpenConnection, access,
    opening::{Direction, Opening},
    series,
};

/// Why a connection ended other than by both sides' leave; shown in the access log.
pub type CloseReason = Box<dyn std::error::Error + Send + Sync>;

impl Accounting {
    /// A connection is open in both directions. The record belongs to whoever carries it, who counts in it.
    pub fn opened(self: &Arc<Self>, opening: Opening) -> ConnectionRecord {
        ConnectionRecord::new(self, opening)
    }
}

/// Counts one connection's bytes. Ends in exactly one access log line: by [`ConnectionRecord::close`], or when it is
/// dropped.
#[derive(Debug)]
pub struct ConnectionRecord {
    accounting: Arc<Accounting>,
    series: Arc<TcpSeries>,
    open: Arc<OpenConnection>,
    place: crate::open::Place,
    began: Instant,
    /// Since the last publication.
    sent: u64,
    received: u64,
    closed: bool,
}

impl ConnectionRecord {
    fn new(accounting: &Arc<Accounting>, opening: Opening) -> Self {
        let series = series::with(&accounting.tcp, &opening, ResponseFlags::None, |series| {
            series.open();
            Arc::clone(series)
        });
        if let (Direction::Outbound, Some(workload)) = (opening.direction, &opening.peer.workload) {
            workload.open.fetch_add(1, Ordering::Relaxed);
        }
        let open = Arc::new(OpenConnection::new(opening));
        Self {
            accounting: Arc::clone(accounting),
            series,
            place: accounting.open.add(&open),
            open,
            began: Instant::now(),
            sent: 0,
            received: 0,
            closed: false,
        }
    }

    /// The pod of this node has sent `bytes`.
    pub fn add_sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// The pod of this node has received `bytes`.
    pub fn add_received(&mut self, bytes: u64) {
        self.received += bytes;
    }

    /// Shows what was counted since the last call. Cheap when there is nothing.
    pub fn publish(&mut self) {
        let (sent, received) = (std::mem::take(&mut self.sent), std::mem::take(&mut self.received));
        if sent == 0 && received == 0 {
            return;
        }
        self.open.count(sent, received);
        series::transferred(&self.series, self.open.opening().direction, sent, received);
    }

    /// The connection has ended.
    pub fn close(mut self, outcome: Result<(), CloseReason>) {
        self.end(outcome.err().as_deref());
    }

    fn end(&mut self, error: Option<&(dyn std::error::Error + Send + Sync + 'static)>) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        self.publish();
        self.series.close();
        let opening = self.open.opening();
        if let (Direction::Outbound, Some(workload)) = (opening.direction, &opening.peer.workload) {
            workload.open.fetch_sub(1, Ordering::Relaxed);
        }
        self.accounting.open.remove(&self.place);
        if opening.direction == Direction::Inbound {
            self.accounting.recent.note(opening, Instant::now());
        }
        let (sent, received) = self.open.bytes();
        let error = error.map(|error| error as &dyn Display);
        access::ended(opening, sent, received, self.began.elapsed(), error);
    }
}

impl Drop for ConnectionRecord {
    fn drop(&mut self) {
        #[derive(Debug, thiserror::Error)]
        #[error("the proxy let go of the connection")]
        struct LetGo;
        self.end(Some(&LetGo));
    }
}
