//! What could not be taken in because the process may open hardly any more descriptors, and asking for it again.

use std::{
    collections::BTreeSet,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc::UnboundedSender;

use crate::{
    descriptors::{Descriptors, Use},
    engine::LoopHandle,
    seam::{LoopMessage, Shared},
    wire::Report,
};

/// Between two lines in the log about it.
const LINES: Duration = Duration::from_secs(10);

/// Sockets asked for at a time while it lasts.
const FEW_SOCKETS: u32 = 8;

/// Lasts from the first thing that finds no descriptor until there are some again.
pub(super) struct Shortage {
    descriptors: Descriptors,
    loops: Arc<[LoopHandle]>,
    shared: Arc<Shared>,
    /// Pods whose listeners were lost, to be sent again.
    lost: BTreeSet<String>,
    /// Pods whose sockets were lost, to be asked for again.
    unserved: BTreeSet<String>,
    /// When it was last logged. While descriptors come and go one by one, a shortage begins and ends many times.
    logged: Option<Instant>,
}

impl Shortage {
    pub(super) fn new(descriptors: Descriptors, loops: Arc<[LoopHandle]>, shared: Arc<Shared>) -> Self {
        tracing::info!(limit = descriptors.limit(), "descriptors that may be open");
        Self {
            descriptors,
            loops,
            shared,
            lost: BTreeSet::new(),
            unserved: BTreeSet::new(),
            logged: None,
        }
    }

    fn is_on(&self) -> bool {
        !self.lost.is_empty() || !self.unserved.is_empty()
    }

    /// How many of so many wanted sockets are asked for at a time.
    pub(super) fn portion(&self, count: u32) -> u32 {
        if self.is_on() { count.min(FEW_SOCKETS) } else { count }
    }

    /// There were no descriptors for a pod's listeners.
    pub(super) fn lose_listeners(&mut self, uid: String) {
        self.begin();
        self.lost.insert(uid);
    }

    /// There were no descriptors for sockets in a pod's namespace.
    pub(super) fn miss_sockets(&mut self, uid: String) {
        self.begin();
        self.unserved.insert(uid);
    }

    /// Closes those of a pod's new sockets whose descriptors are kept for other uses.
    pub(super) fn keep_back(&mut self, uid: &str, sockets: &mut Vec<OwnedFd>) {
        let all = sockets.len();
        sockets.retain(|socket| !self.descriptors.is_kept_back(socket, Use::Outbound));
        if sockets.len() < all {
            self.miss_sockets(uid.to_owned());
        }
    }

    /// The pod is served no longer.
    pub(super) fn forget(&mut self, uid: &str) {
        let had = self.lost.remove(uid) | self.unserved.remove(uid);
        if had && !self.is_on() {
            self.end();
        }
    }

    fn begin(&mut self) {
        if self.is_on() {
            return;
        }
        if self.logged.is_none_or(|at| at.elapsed() >= LINES) {
            self.logged = Some(Instant::now());
            let limit = self.descriptors.limit();
            tracing::warn!(
                limit,
                "descriptors are short: new connections wait until others end; raise the limit (RLIMIT_NOFILE)"
            );
        }
        self.shared.telemetry.proxy().descriptor_shortages.inc();
        self.shared.telemetry.proxy().descriptors_short.set(1);
        for handle in self.loops.iter() {
            handle.send(LoopMessage::DescriptorsShort);
        }
    }

    /// Asks again for what it prevented, once there are descriptors again.
    pub(super) fn try_again(&mut self, reports: &UnboundedSender<Report>) {
        if !self.is_on() || self.descriptors.are_short(Use::Outbound) {
            return;
        }
        for uid in std::mem::take(&mut self.lost) {
            // Fails only when the task that speaks to the monitor has panicked.
            let _ = reports.send(Report::PodLost(uid));
        }
        for uid in std::mem::take(&mut self.unserved) {
            // An arrival of none makes a loop look at what it still needs.
            let name: Arc<str> = uid.into();
            for handle in self.loops.iter() {
                handle.send(LoopMessage::Sockets(Arc::clone(&name), Vec::new()));
            }
        }
        tracing::debug!("there are descriptors again");
        self.end();
    }

    fn end(&self) {
        self.shared.telemetry.proxy().descriptors_short.set(0);
    }
}
