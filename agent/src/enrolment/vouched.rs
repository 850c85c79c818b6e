//! What proxies have said of connections that may go past them (see `same_node`).

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use super::ageing::Ageing;
use crate::{
    handover::same_node::{Pair, SameNodeSaid},
    kernel::SameNodeEntries,
};

/// What proxies have said.
#[derive(Default)]
pub(super) struct SameNode {
    /// By proxy and pod that is reached.
    pub(super) said: BTreeMap<(u64, Arc<str>), Vec<Pair>>,
    /// Proxies that have said all that they know.
    pub(super) known: HashSet<u64>,
    /// What each proxy was asked for last.
    pub(super) asked: HashMap<u64, Vec<String>>,
    pub(super) entered: SameNodeEntries,
    /// Which of them nobody uses.
    pub(super) ageing: Ageing,
    /// Connections that have ended, and whose client was gone by then.
    pub(super) unreported: u64,
    /// What was entered last could not be.
    pub(super) is_failing: bool,
    /// Nothing is entered or open, as far as was looked: an earlier agent may have left something.
    pub(super) is_idle: bool,
    /// What is new has not been compared with what is open.
    pub(super) is_changed: bool,
    pub(super) problem: Option<String>,
}

impl SameNode {
    /// Whether there is something to confirm and to look after.
    pub(super) fn is_used(&self) -> bool {
        !self.is_idle
    }

    pub(super) fn note(&mut self, proxy: u64, said: SameNodeSaid) {
        self.is_changed = true;
        match said.server {
            None => self.said.retain(|(of, _), _| *of != proxy),
            Some(server) if said.pairs.is_empty() => drop(self.said.remove(&(proxy, server))),
            Some(server) => drop(self.said.insert((proxy, server), said.pairs)),
        }
    }

    pub(super) fn known(&mut self, proxy: u64) {
        self.is_changed = true;
        self.known.insert(proxy);
    }

    pub(super) fn left(&mut self, proxy: u64) {
        self.is_changed = true;
        self.said.retain(|(of, _), _| *of != proxy);
        self.known.remove(&proxy);
        self.asked.remove(&proxy);
    }
}
