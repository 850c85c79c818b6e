//! Whether a connection has requests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// How many requests a connection has, and when it last had one.
#[derive(Debug)]
pub(crate) struct Busy {
    begun: Instant,
    requests: AtomicU32,
    /// Nanoseconds after that: when the last one that has ended did.
    ended: AtomicU64,
}

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct Underway(Arc<Busy>);

impl Drop for Underway {
    fn drop(&mut self) {
        let passed = u64::try_from(self.0.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.ended.store(passed, Ordering::Relaxed);
        // After that, so that who finds no request finds when the last one ended.
        self.0.requests.fetch_sub(1, Ordering::Release);
    }
}

impl Busy {
    /// There was no request yet.
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            requests: AtomicU32::new(0),
            ended: AtomicU64::new(0),
        }
    }

    /// One begins.
    pub(crate) fn begin(self: &Arc<Self>) -> Underway {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Underway(Arc::clone(self))
    }

    /// As many as there are.
    pub(crate) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Since when there is none.
    pub(crate) fn idle_since(&self) -> Option<std::time::Instant> {
        self.last().map(Instant::into_std)
    }

    /// When the last one ended, where there is none.
    fn last(&self) -> Option<Instant> {
        let is_idle = self.requests.load(Ordering::Acquire) == 0;
        is_idle.then(|| self.begun + Duration::from_nanos(self.ended.load(Ordering::Relaxed)))
    }

    /// Waits until there has been no request for so long. Requests set no timer: it is looked at them when the time could be over.
    pub(crate) async fn idle(&self, timeout: Duration) {
        loop {
            let now = Instant::now();
            let until = self.last().unwrap_or(now) + timeout;
            if until <= now {
                return;
            }
            sleep_until(until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_so_long_after_its_last_request_and_never_with_one() {
        let busy = Arc::new(Busy::new());
        let begun = Instant::now();
        let requests = async {
            for seconds in [3, 25] {
                let request = busy.begin();
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                drop(request);
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
        };
        tokio::join!(busy.idle(Duration::from_secs(10)), requests);
        assert_eq!(begun.elapsed().as_secs(), 3 + 4 + 25 + 10);
    }
}
