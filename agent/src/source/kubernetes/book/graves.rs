//! Pods that are gone for good.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

/// Uids of deleted pods that are remembered.
const GRAVES: usize = 4096;

/// Uids of pods that are gone, as many as fit.
#[derive(Debug, Default)]
pub(super) struct Graves {
    uids: HashSet<Arc<str>>,
    order: VecDeque<Arc<str>>,
}

impl Graves {
    pub(super) fn has(&self, uid: &str) -> bool {
        self.uids.contains(uid)
    }

    pub(super) fn extend(&mut self, uids: impl IntoIterator<Item = Arc<str>>) {
        for uid in uids {
            if self.uids.insert(uid.clone()) {
                self.order.push_back(uid);
            }
        }
        while self.order.len() > GRAVES {
            let oldest = self.order.pop_front();
            oldest.map(|uid| self.uids.remove(&uid));
        }
    }
}
