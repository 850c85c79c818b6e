//! Counting what is under way.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// One of something that is counted, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(Arc<AtomicU32>);

impl Counted {
    /// One more.
    pub(crate) fn new(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }

    /// One more, unless that were more than `most`.
    pub(crate) fn within(count: &Arc<AtomicU32>, most: u32) -> Option<Self> {
        let more = |before: u32| (before < most).then_some(before + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(Arc::clone(count)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
