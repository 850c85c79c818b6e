//! The time of day, handed in, so that a test can own it: by it certificates begin and end, tokens expire and roots are replaced.
//!
//! How long something takes is tokio's time throughout, which a test can own as well.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use time::OffsetDateTime;

/// Tells the time of day.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The machine's.
    pub fn system() -> Self {
        Self::new(SystemTime::now)
    }

    /// One of the caller's own.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// What it shows.
    pub fn now(&self) -> SystemTime {
        (self.0)()
    }

    /// The same, as certificates have it.
    pub(crate) fn utc(&self) -> OffsetDateTime {
        self.now().into()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
