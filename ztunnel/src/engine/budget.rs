//! The bytes that connections make the proxy hold, and what happens as they become too many.
//!
//! An application that does not read makes its node's proxy keep what was sent: a stream's window at most for each
//! connection, but of any number of connections. So what is held is counted, for all loops of the worker together and for
//! each pod, which may cause at most [`POD_SHARE`] of the whole. As the room gets smaller,
//! 1. a tunnel that holds more than [`TUNNEL_SHARE`] of what is left gets no more credit for its connection: those that
//!    hold most are the first, and one whose applications read never is ("dynamic thresholds", Choudhury and Hahne);
//! 2. from [`REFUSE`] on, new streams to the pod are refused (`REFUSED_STREAM`: the peer may try again);
//! 3. beyond the limit, the connection that holds most is reset.

use std::{
    collections::hash_map::Entry,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use culvert_hbone::{ErrorCode, StreamId};
use rustc_hash::FxHashMap;

use super::{
    Loop,
    arena::Key,
    failure::Failure,
    flow::{Far, Flow},
    tunnel::{State, Tunnel},
};

/// What one pod may cause of the whole, in sixteenths.
const POD_SHARE: u64 = 5;

/// What one tunnel may hold of the room that is left, before its peer gets no more credit: one part in so many.
const TUNNEL_SHARE: u64 = 8;

/// From when on new streams are refused, in eighths of a limit.
const REFUSE: u64 = 6;

/// A pod that holds no more than this is not what fills the worker.
const INNOCENT: u64 = 1 << 20;

/// What all loops of a worker hold together, and may hold.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    limit: u64,
    held: AtomicU64,
}

impl HeldBytes {
    /// Nothing held yet.
    pub(crate) const fn new(limit: u64) -> Self {
        Self {
            limit,
            held: AtomicU64::new(0),
        }
    }

    /// Bytes that may be held.
    pub(crate) const fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes that are held.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}

/// The same as one loop sees it, with each pod's part.
#[derive(Debug)]
pub(super) struct Budget {
    all: Arc<HeldBytes>,
    /// Only of pods that cause any.
    pods: FxHashMap<Arc<str>, u64>,
    /// Resets have been logged; once for each time that there is too little room.
    warned: bool,
}

/// Whose limit is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Excess {
    Pod,
    Worker,
}

impl Budget {
    pub(super) fn new(all: Arc<HeldBytes>) -> Self {
        Self {
            all,
            pods: FxHashMap::default(),
            warned: false,
        }
    }

    fn pod_limit(&self) -> u64 {
        self.all.limit / 16 * POD_SHARE
    }

    fn of(&self, pod: &str) -> u64 {
        self.pods.get(pod).copied().unwrap_or(0)
    }

    fn change(&mut self, pod: &Arc<str>, before: usize, after: usize) {
        let (before, after) = (before as u64, after as u64);
        let (grown, shrunk) = (after.saturating_sub(before), before.saturating_sub(after));
        self.all.held.fetch_add(grown, Ordering::Relaxed);
        self.all.held.fetch_sub(shrunk, Ordering::Relaxed);
        match self.pods.entry(Arc::clone(pod)) {
            Entry::Occupied(mut entry) => {
                *entry.get_mut() = (*entry.get() + grown).saturating_sub(shrunk);
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
            Entry::Vacant(entry) => {
                if grown > 0 {
                    entry.insert(grown);
                }
            }
        }
    }

    /// Bytes that one of the pod's tunnels may hold and still get credit.
    fn tunnel_limit(&self, pod: &str) -> u64 {
        let of_pod = self.pod_limit().saturating_sub(self.of(pod));
        let of_all = self.all.limit.saturating_sub(self.all.held());
        of_pod.min(of_all) / TUNNEL_SHARE
    }

    /// Whether no new stream to the pod is taken.
    fn refuses(&self, pod: &str) -> bool {
        let held = self.of(pod);
        held >= self.pod_limit() / 8 * REFUSE || held > INNOCENT && self.all.held() >= self.all.limit / 8 * REFUSE
    }

    fn excess(&self, pod: &str) -> Option<Excess> {
        if self.of(pod) > self.pod_limit() {
            Some(Excess::Pod)
        } else if self.all.held() > self.all.limit {
            Some(Excess::Worker)
        } else {
            None
        }
    }
}

impl Flow {
    /// Bytes that wait here for a socket that does not take them.
    fn holds(&self) -> usize {
        let near = self.near.as_ref().map_or(0, |socket| socket.backlog.len());
        let far = match &self.far {
            Far::Socket(socket) => socket.backlog.len(),
            _ => 0,
        };
        near + far + self.early.len()
    }
}

impl Loop {
    /// Counts what a flow holds now, and does what the room that is left demands.
    pub(super) fn account(&mut self, key: Key<Flow>) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let after = flow.holds();
        if after == flow.held {
            return;
        }
        let before = std::mem::replace(&mut flow.held, after);
        let (pod, stream) = (Arc::clone(&flow.pod.pod.uid), flow.stream());
        self.budget.change(&pod, before, after);
        if let Some(stream) = stream {
            if let Some(tunnel) = self.tunnels.get_mut(stream.tunnel) {
                tunnel.held = (tunnel.held + after).saturating_sub(before);
            }
            self.regulate(stream.tunnel);
        }
        if after > before {
            self.shed(&pod);
        }
    }

    /// A flow that has ended holds nothing any more.
    pub(super) fn unaccount(&mut self, flow: &mut Flow) {
        let held = std::mem::take(&mut flow.held);
        if held == 0 {
            return;
        }
        self.budget.change(&flow.pod.pod.uid, held, 0);
        if let Some(stream) = flow.stream() {
            if let Some(tunnel) = self.tunnels.get_mut(stream.tunnel) {
                tunnel.held = tunnel.held.saturating_sub(held);
            }
            self.regulate(stream.tunnel);
        }
    }

    /// Withholds credit from a tunnel that holds too much, or gives what was withheld.
    pub(super) fn regulate(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let State::Open(connection) = &mut tunnel.state else {
            return;
        };
        let withhold = tunnel.held > 0 && tunnel.held as u64 > self.budget.tunnel_limit(&tunnel.pod.pod.uid);
        if connection.withhold(withhold) {
            self.touch(key);
        }
    }

    /// Refuses a stream where a tunnel or its pod has enough; returns whether it did.
    pub(super) fn refuse_stream(&mut self, key: Key<Tunnel>, id: StreamId) -> bool {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return true;
        };
        let reason = if tunnel.stale.is_some() {
            "certificate"
        } else if tunnel.streams.len() >= self.config.hbone.max_streams as usize {
            // Both directions of the others may have ended; their applications have not taken everything.
            "streams"
        } else if self.budget.refuses(&tunnel.pod.pod.uid) {
            "memory"
        } else {
            return false;
        };
        tracing::debug!(peer = %tunnel.peer, pod = %tunnel.pod.pod.uid, reason, "a stream is refused");
        if let State::Open(connection) = &mut tunnel.state {
            connection.reset(id, ErrorCode::RefusedStream);
        }
        let refused = &self.shared.telemetry.proxy().refused_streams;
        refused.get_or_create(&[("reason", reason)]).inc();
        self.touch(key);
        true
    }

    /// Resets what holds most while a limit is exceeded.
    fn shed(&mut self, pod: &Arc<str>) {
        while let Some(excess) = self.budget.excess(pod) {
            let holders = self
                .flows
                .iter_mut()
                .filter(|(_, flow)| flow.held > 0 && (excess == Excess::Worker || flow.pod.pod.uid == *pod));
            let Some((key, flow)) = holders.max_by_key(|(_, flow)| flow.held) else {
                return;
            };
            let held = flow.held;
            if !std::mem::replace(&mut self.budget.warned, true) {
                tracing::warn!(
                    pod = %flow.pod.pod.uid,
                    destination = %flow.destination,
                    held,
                    limit = if excess == Excess::Pod { self.budget.pod_limit() } else { self.budget.all.limit },
                    ?excess,
                    "too much is held for applications that do not read; resetting the connections that hold most"
                );
            }
            self.shared.telemetry.proxy().shed_connections.inc();
            self.end(key, Err(Failure::TooMuchHeld(held)));
        }
    }

    /// The regular look: shows what is held.
    pub(super) fn publish_held(&mut self) {
        let (held, limit) = (self.budget.all.held(), self.budget.all.limit);
        let metrics = self.shared.telemetry.proxy();
        metrics.held_bytes.set(held as i64);
        metrics.held_limit.set(limit as i64);
        let worst = self.budget.pods.values().copied().max().unwrap_or(0);
        if held < limit / 8 * REFUSE && worst < self.budget.pod_limit() / 8 * REFUSE {
            self.budget.warned = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn one_pod_cannot_use_up_what_others_need() {
        let mut budget = Budget::new(Arc::new(HeldBytes::new(80 << 20)));
        let (greedy, other): (Arc<str>, Arc<str>) = ("greedy".into(), "other".into());
        assert!(budget.tunnel_limit(&greedy) >= 3 << 20);
        budget.change(&greedy, 0, 24 * MIB);
        // It gets next to no credit and no stream, and the other as much of both as before.
        assert!(budget.tunnel_limit(&greedy) < MIB as u64);
        assert!(budget.refuses(&greedy) && !budget.refuses(&other));
        assert!(budget.tunnel_limit(&other) >= 3 << 20);
        assert_eq!(budget.excess(&greedy), None);
        budget.change(&greedy, 24 * MIB, 26 * MIB);
        assert_eq!(
            (budget.excess(&greedy), budget.excess(&other)),
            (Some(Excess::Pod), None)
        );
        budget.change(&greedy, 26 * MIB, 0);
        assert_eq!((budget.all.held(), budget.pods.len()), (0, 0));
    }

    #[test]
    fn many_pods_together_are_bounded_and_those_that_hold_nothing_are_served() {
        let mut budget = Budget::new(Arc::new(HeldBytes::new(80 << 20)));
        let pods: Vec<Arc<str>> = (0..5).map(|number| format!("pod-{number}").into()).collect();
        for pod in &pods {
            budget.change(pod, 0, 15 * MIB);
        }
        assert!(budget.refuses(&pods[0]));
        assert!(!budget.refuses("idle"));
        budget.change(&pods[0], 15 * MIB, 22 * MIB);
        assert_eq!(budget.excess(&pods[0]), Some(Excess::Worker));
    }
}
