//! What has to be looked at for the next response.

use std::{collections::HashSet, sync::Arc};

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
            && self.removals.is_empty()
    }

    /// Everything is looked at: that covers what changed.
    pub(super) fn touch_all(&mut self) {
        self.all = true;
        self.check.clear();
        self.touched.clear();
    }
}
