//! Waiting for a condition, with a deadline.

use crate::Error;
use std::time::{Duration, Instant};

/// Calls `probe` until it answers `Some`, and fails with `what` in the message when `timeout` is over.
///
/// # Errors
/// What `probe` failed with, at once; or [`Error::Timeout`].
pub fn wait_for<T>(
    what: &str,
    timeout: Duration,
    mut probe: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    let started = Instant::now();
    loop {
        if let Some(answer) = probe()? {
            return Ok(answer);
        }
        if started.elapsed() >= timeout {
            return Err(Error::Timeout {
                what: what.to_owned(),
                after: timeout,
                detail: String::new(),
            });
        }
        pause();
    }
}

/// Calls `probe` until it answers true, and fails with `what` in the message when `timeout` is over.
///
/// # Errors
/// [`Error::Timeout`].
pub fn wait_until(what: &str, timeout: Duration, mut probe: impl FnMut() -> bool) -> Result<(), Error> {
    wait_for(what, timeout, || Ok(probe().then_some(())))
}

#[allow(
    clippy::disallowed_methods,
    reason = "the pause between two looks at a condition that nothing signals"
)]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}
