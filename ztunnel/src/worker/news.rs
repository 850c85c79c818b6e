//! What the monitor is told of pods: whose certificate has come, which ports are strict, which connections may go past the proxy.
//!
//! Whatever the mesh or a pod changes, [`News::report`] is called, and says what differs from what was said before.

use std::{sync::Arc, time::Instant};

use culvert_proto::zds;
use culvert_state::Pod;
use tokio::sync::mpsc::UnboundedSender;

use super::{guards::Guards, same_node::SameNode};
use crate::{
    seam::{Proposal, Shared},
    wire::Report,
};

/// What has been said of each pod that the worker serves. Sending fails only when the task has panicked that speaks to the monitor.
pub(super) struct News {
    shared: Arc<Shared>,
    /// Pods whose certificate has not been reported.
    uncertified: Vec<Arc<Pod>>,
    guards: Guards,
    same_node: SameNode,
}

impl News {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            uncertified: Vec::new(),
            guards: Guards::default(),
            same_node: SameNode::default(),
        }
    }

    /// A pod to speak of. Nothing has been said of it.
    pub(super) fn add(&mut self, pod: Arc<Pod>) {
        self.guards.add(Arc::clone(&pod));
        self.same_node.add(Arc::clone(&pod));
        self.uncertified.push(pod);
    }

    pub(super) fn remove(&mut self, uid: &str) {
        self.uncertified.retain(|pod| *pod.uid != *uid);
        self.guards.remove(uid);
        self.same_node.remove(uid);
    }

    /// The pods to which connections may go past the proxy, by their uids.
    pub(super) fn want_same_node(&mut self, uids: Vec<String>) {
        self.same_node.want(uids);
    }

    /// Two pods have a connection through the proxy.
    pub(super) fn propose(&mut self, proposal: Proposal) {
        self.same_node.propose(proposal);
    }

    /// Nobody uses these pairs, which go through the proxy from now on.
    pub(super) fn forget_same_node(&mut self, pairs: Vec<zds::SameNodePair>) {
        self.same_node.forget(pairs);
    }

    /// Logs and counts connections that have gone past the proxy and have ended.
    pub(super) fn account_same_node(&mut self, ended: zds::SameNodeEnded) {
        let accounting = self.shared.telemetry.accounting();
        self.same_node.account(ended, &self.shared.mesh.load(), accounting);
    }

    /// Says what is new.
    pub(super) fn report(&mut self, reports: &UnboundedSender<Report>) {
        self.report_certified(reports);
        for guard in self.guards.news(&self.shared.mesh.load()) {
            let _ = reports.send(Report::Guard(guard));
        }
        self.report_same_node(reports);
    }

    /// Says which connections may go past the proxy, where that has changed.
    pub(super) fn report_same_node(&mut self, reports: &UnboundedSender<Report>) {
        let mesh = self.shared.mesh.load();
        let news = self.same_node.news(&mesh, &self.shared.same_node, Instant::now());
        for said in news {
            let _ = reports.send(Report::SameNode(said));
        }
    }

    fn report_certified(&mut self, reports: &UnboundedSender<Report>) {
        if self.uncertified.is_empty() {
            return;
        }
        let credentials = self.shared.credentials.load();
        let has_come = |pod: &mut Arc<Pod>| credentials.contains_key(&pod.identity);
        for pod in self.uncertified.extract_if(.., has_come) {
            let _ = reports.send(Report::Certified(pod.uid.to_string()));
        }
    }
}
