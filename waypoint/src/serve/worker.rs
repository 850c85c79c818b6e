//! What the connections of one thread share.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use arc_swap::ArcSwap;
use culvert_telemetry::AccessLines;
use culvert_tunnel::io::Server;
use tokio::{sync::watch, time::timeout_at};

use crate::{
    counted::Counted,
    memory::Memory,
    state::Snapshot,
    telemetry::{Limit, Spans, Telemetry},
    upstream::Upstream,
};

/// What is too much for one thread.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Tunnels that clients may have open.
    pub tunnels: u32,
    /// Connections inside of them.
    pub connections: u32,
    /// Requests that may be under way.
    pub requests: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tunnels: 10_000,
            connections: 50_000,
            requests: 20_000,
        }
    }
}

/// What is open on one thread. Clones know the same.
#[derive(Clone, Debug, Default)]
pub struct Open {
    tunnels: Arc<AtomicU32>,
    connections: Arc<AtomicU32>,
    requests: Arc<AtomicU32>,
}

impl Open {
    /// Tunnels of clients.
    pub fn tunnels(&self) -> u32 {
        self.tunnels.load(Ordering::Relaxed)
    }

    /// Connections inside of them.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Requests that are under way.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// What the waypoint calls itself.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// In spans, `GATEWAY.NAMESPACE`.
    pub service: String,
    /// In lines: its pod.
    pub hostname: String,
}

/// One thread's state. Clones share it.
#[derive(Clone)]
pub struct Worker(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) state: Arc<ArcSwap<Snapshot>>,
    pub(crate) server: Server,
    pub(crate) upstream: Upstream,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) spans: Arc<Spans>,
    pub(crate) lines: AccessLines,
    /// True from the moment on at which nothing new is taken.
    pub(crate) drain: watch::Receiver<bool>,
    limits: Limits,
    memory: Memory,
    open: Open,
}

impl Worker {
    /// Serves nobody yet.
    #[allow(clippy::too_many_arguments, reason = "what a thread is made of, each once")]
    pub fn new(
        state: Arc<ArcSwap<Snapshot>>,
        server: Server,
        upstream: Upstream,
        telemetry: Arc<Telemetry>,
        drain: watch::Receiver<bool>,
        limits: Limits,
        memory: Memory,
        names: Names,
        lines: AccessLines,
    ) -> Self {
        let spans = Spans::new(
            upstream.clone(),
            Arc::clone(&state),
            Arc::clone(&telemetry),
            names.service,
            names.hostname,
        );
        Self(Arc::new(Inner {
            state,
            server,
            upstream,
            telemetry,
            spans,
            lines,
            drain,
            limits,
            memory,
            open: Open::default(),
        }))
    }

    /// Sends spans that wait, for a moment, before the thread ends.
    pub async fn flush(&self) {
        self.0.spans.flush().await;
    }

    /// What is open on this thread.
    pub fn open(&self) -> Open {
        self.0.open.clone()
    }
}

impl Inner {
    pub(crate) fn tunnel(&self) -> Option<Counted> {
        self.within(&self.open.tunnels, self.limits.tunnels, Limit::Tunnels)
    }

    pub(crate) fn connection(&self) -> Option<Counted> {
        self.within(&self.open.connections, self.limits.connections, Limit::Connections)
    }

    /// One more request, unless there are too many or there is too little memory. One is always taken: nobody else would show that there is
    /// memory again.
    pub(crate) fn request(&self) -> Option<Counted> {
        if self.memory.is_full() && self.open.requests() > 0 {
            self.telemetry.overloaded(Limit::Memory);
            return None;
        }
        self.within(&self.open.requests, self.limits.requests, Limit::Requests)
    }

    /// One more, unless that were too many, which is counted.
    fn within(&self, count: &Arc<AtomicU32>, most: u32, limit: Limit) -> Option<Counted> {
        let counted = Counted::within(count, most);
        if counted.is_none() {
            self.telemetry.overloaded(limit);
        }
        counted
    }

    /// What is known once these routes are, or once they are no longer waited for.
    pub(crate) async fn with_routes(&self, mut snapshot: Arc<Snapshot>, routes: &str) -> Arc<Snapshot> {
        while let Some(until) = snapshot.awaited.until(routes) {
            let awaited = snapshot.awaited.clone();
            let published = awaited.published();
            // What was published before that wakes nobody.
            snapshot = self.state.load_full();
            if snapshot.awaited.until(routes) == Some(until) && timeout_at(until.into(), published).await.is_err() {
                tracing::warn!(
                    routes,
                    "routes did not come in time: a request is answered without them"
                );
                break;
            }
            snapshot = self.state.load_full();
        }
        snapshot
    }

    /// Whether there is memory for another connection of bytes, which is counted already.
    pub(crate) fn has_memory_for_bytes(&self) -> bool {
        let has_memory = !self.memory.is_full() || self.open.connections() <= 1;
        if !has_memory {
            self.telemetry.overloaded(Limit::Memory);
        }
        has_memory
    }

    /// Waits until nothing new is taken.
    pub(crate) async fn drained(&self) {
        let mut drain = self.drain.clone();
        if drain.wait_for(|drain| *drain).await.is_err() {
            // Nobody is there any more who could say so.
            std::future::pending::<()>().await;
        }
    }
}
