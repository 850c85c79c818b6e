//! The end of a filter chain, as the connections hear of it that it took.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether a chain is no longer in force.
#[derive(Debug, Default)]
pub struct Retirement {
    is_retired: AtomicBool,
    told: Notify,
}

impl Retirement {
    /// The chain is in force no longer, and what is in its place can be seen.
    pub fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    /// Whether it is not.
    pub fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Acquire)
    }

    /// Ends when it is not.
    pub async fn retired(&self) {
        let told = self.told.notified();
        tokio::pin!(told);
        // From here on nothing is missed.
        told.as_mut().enable();
        if !self.is_retired() {
            told.await;
        }
    }
}
