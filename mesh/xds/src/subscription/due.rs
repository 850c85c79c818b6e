//! What has to be looked at for the next response.

use std::{collections::HashSet, sync::Arc};

use super::{
    building::{Again, Building, Work},
    holdings::Holdings,
};
use crate::resources::View;

/// What has to be looked at for the next response.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Everything.
    pub(super) all: bool,
    /// Just asked for: answered in any case.
    pub(super) fresh: HashSet<Arc<str>>,
    /// Asked for, and perhaps there or gone now.
    pub(super) check: HashSet<Arc<str>>,
    /// Resources that changed.
    pub(super) touched: HashSet<Arc<str>>,
    /// Resources whose content is sent again.
    pub(super) again: HashSet<Arc<str>>,
    /// Resources for which the client waits, whatever it has of them.
    pub(super) awaited: HashSet<Arc<str>>,
    /// Removals that have waited long enough.
    pub(super) removals: Vec<Arc<str>>,
}

impl Due {
    /// Whether there is nothing to look at.
    pub(super) fn is_empty(&self) -> bool {
        !self.all
            && self.fresh.is_empty()
            && self.check.is_empty()
            && self.touched.is_empty()
            && self.again.is_empty()
            && self.awaited.is_empty()
            && self.removals.is_empty()
    }

    /// Everything is looked at: that covers what changed.
    pub(super) fn touch_all(&mut self) {
        self.all = true;
        self.check.clear();
        self.touched.clear();
    }

    /// What is due becomes work.
    pub(super) fn plan(self, url: &str, holdings: &Holdings, view: &impl View) -> Building {
        let mut work = Vec::new();
        if self.all {
            let look = |name| Work::Look { name, again: Again::No };
            work.extend(holdings.held().cloned().map(look));
            if holdings.is_wildcard() {
                let new = view.all(url).map(|(name, _)| name);
                let new = new.filter(|name| !holdings.holds(name));
                work.extend(new.cloned().map(look));
            } else {
                let ask = |name: &Arc<str>| Work::Ask {
                    fresh: self.fresh.contains(name),
                    name: Arc::clone(name),
                };
                work.extend(holdings.asked().map(ask));
            }
        } else {
            work.extend(self.check.into_iter().map(Work::Check));
            if !holdings.is_wildcard() {
                work.extend(self.fresh.into_iter().map(|name| Work::Ask { name, fresh: true }));
            }
            work.extend(self.touched.into_iter().map(Work::Touched));
        }
        let anew = |again| move |name| Work::Look { name, again };
        work.extend(self.again.into_iter().map(anew(Again::Asked)));
        work.extend(self.awaited.into_iter().map(anew(Again::Always)));
        let removals = self.removals.into_iter();
        // What has come back meanwhile is not gone.
        let removed = removals.filter(|name| !holdings.holds(name)).collect();
        Building::new(work, removed)
    }
}
