//! Which nodes have an agent. A labelled pod on a node that no agent serves is not in the mesh, whatever its label says:
//! others that went to its tunnel would be refused.
//!
//! What is announced as outside the mesh is reached in plaintext, so the doubt is on the other side. A node counts as
//! served from the moment it is known, for [`GRACE`]; if an agent's pod was on it by then, for as long as the node is there,
//! so that neither a restart nor a deleted pod of an agent opens anything. Only a node whose system no agent runs on is
//! unserved at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert_objects::Node;

/// How long a node may be known before its agent is: longer than it takes until a DaemonSet's pod is bound to it, and until
/// all is listed after a start.
const GRACE: Duration = Duration::from_secs(60);
/// The label that says which system a node runs, and the one that agents run on.
const OS: (&str, &str) = ("kubernetes.io/os", "linux");

/// What is known of the nodes.
#[derive(Debug, Default)]
pub(super) struct Agents {
    /// Whether pods are enrolled by agents that are pods themselves.
    are_pods: bool,
    /// Nodes that have or had an agent.
    served: HashSet<Arc<str>>,
    /// Nodes without one so far, and until when that is nothing.
    waiting: HashMap<Arc<str>, Instant>,
    unserved: HashSet<Arc<str>>,
}

impl Agents {
    /// Agents that are pods, or for which the source's word stands.
    pub(super) fn new(are_pods: bool) -> Self {
        Self {
            are_pods,
            ..Self::default()
        }
    }

    /// Whether it is certain that no agent serves the node.
    pub(super) fn is_unserved(&self, node: &str) -> bool {
        self.unserved.contains(node)
    }

    /// A node is there, as it is now. True if the answer for it is another.
    pub(super) fn node(&mut self, name: &Arc<str>, node: &Node, now: Instant) -> bool {
        if !self.are_pods {
            return false;
        }
        let os = node.labels.get(OS.0);
        if os.is_some_and(|os| os != OS.1) {
            self.waiting.remove(name);
            self.served.remove(name);
            return self.unserved.insert(Arc::clone(name));
        }
        if !self.served.contains(name) && !self.unserved.contains(name) {
            self.waiting.entry(Arc::clone(name)).or_insert(now + GRACE);
        }
        false
    }

    /// A node is gone.
    pub(super) fn node_gone(&mut self, name: &str) -> bool {
        self.waiting.remove(name);
        self.served.remove(name);
        self.unserved.remove(name)
    }

    /// An agent's pod is on a node.
    pub(super) fn agent(&mut self, node: &Arc<str>) -> bool {
        if !self.are_pods {
            return false;
        }
        self.waiting.remove(node);
        self.served.insert(Arc::clone(node));
        self.unserved.remove(node)
    }

    /// The nodes that have been without an agent for too long.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<Arc<str>> {
        let due = self.waiting.iter().filter(|(_, until)| **until <= now);
        let due: Vec<Arc<str>> = due.map(|(node, _)| Arc::clone(node)).collect();
        for node in &due {
            self.waiting.remove(node);
            self.unserved.insert(Arc::clone(node));
        }
        due
    }

    /// When to ask for those.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.values().min().copied()
    }
}
