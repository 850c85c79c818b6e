//! What agent and worker say to each other of connections that go past the proxy, kept for the next agent and the next worker.

use std::collections::BTreeMap;

use culvert_proto::zds;

/// What was said last.
#[derive(Debug, Default)]
pub(super) struct SameNode {
    wanted: Option<zds::SameNodeWanted>,
    said: BTreeMap<String, zds::SameNode>,
}

impl SameNode {
    /// The agent wants something. Returns what the worker has said.
    pub(super) fn want(&mut self, wanted: zds::SameNodeWanted) -> Vec<zds::SameNode> {
        self.wanted = Some(wanted);
        self.said.values().cloned().collect()
    }

    /// What the agent wants, for the next worker.
    pub(super) fn wanted(&self) -> Option<zds::SameNodeWanted> {
        self.wanted.clone()
    }

    /// The worker has said something.
    pub(super) fn note(&mut self, said: &zds::SameNode) {
        match said.pairs.is_empty() {
            true => self.said.remove(&said.uid),
            false => self.said.insert(said.uid.clone(), said.clone()),
        };
    }

    /// The worker is gone. Returns what the agent is to be told.
    pub(super) fn forget(&mut self) -> zds::SameNode {
        self.said.clear();
        zds::SameNode::default()
    }
}
