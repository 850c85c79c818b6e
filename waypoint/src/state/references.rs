//! Which clusters refer to which endpoints, so that a change of endpoints looks at these alone.

use std::{collections::BTreeSet, sync::Arc};

use rustc_hash::FxHashMap;

/// Names of clusters, by the name of the endpoints that they refer to.
#[derive(Debug, Default)]
pub(super) struct References(FxHashMap<Arc<str>, BTreeSet<Arc<str>>>);

impl References {
    /// A cluster refers to these endpoints.
    pub(super) fn add(&mut self, endpoints: &Arc<str>, cluster: &Arc<str>) {
        let referring = self.0.entry(Arc::clone(endpoints)).or_default();
        referring.insert(Arc::clone(cluster));
    }

    /// It no longer does.
    pub(super) fn remove(&mut self, endpoints: &str, cluster: &str) {
        if let Some(referring) = self.0.get_mut(endpoints) {
            referring.remove(cluster);
            if referring.is_empty() {
                self.0.remove(endpoints);
            }
        }
    }

    /// The clusters that refer to these endpoints.
    pub(super) fn of(&self, endpoints: &str) -> impl Iterator<Item = &Arc<str>> {
        self.0.get(endpoints).into_iter().flatten()
    }
}
