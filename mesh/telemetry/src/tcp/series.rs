//! The counters of one series.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

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

    /// Whether the series is to be shown on: it has an open connection, or has moved within `idle`. `now` is the time since
    /// the start.
    pub(super) fn lives(&self, now: Duration, idle: Duration) -> bool {
        let now = now.as_millis() as u64;
        let sum = self.values().into_iter().fold(0, u64::wrapping_add);
        let open = self.opened.load(Ordering::Relaxed) != self.closed.load(Ordering::Relaxed);
        if open || self.seen.swap(sum, Ordering::Relaxed) != sum {
            self.since.store(now, Ordering::Relaxed);
            return true;
        }
        let lives = now.saturating_sub(self.since.load(Ordering::Relaxed)) < idle.as_millis() as u64;
        self.expired.store(!lives, Ordering::Relaxed);
        lives
    }
}
