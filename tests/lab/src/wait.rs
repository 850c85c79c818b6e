//! Waiting for a condition, with a deadline. The lab's only pause.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Calls `probe` until it answers `Some`, and fails with `what` in the message when `timeout` is over.
pub fn wait_for<T>(what: &str, timeout: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(answer) = probe() {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {:.1} s", timeout.as_secs_f32());
        }
        pause();
    }
}

/// Calls `probe` until it answers true, and fails with `what` in the message when `timeout` is over.
pub fn wait_until(what: &str, timeout: Duration, mut probe: impl FnMut() -> bool) -> Result<()> {
    wait_for(what, timeout, || probe().then_some(()))
}

#[allow(
    clippy::disallowed_methods,
    reason = "the pause between two looks at a condition that nothing signals"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}
