//! What ends a run before its end: a signal. Processes and files of the run go with it.

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGINT or SIGTERM, and returns that as an error.
pub(crate) async fn interrupted<T>() -> Result<T> {
    let listen = |kind| signal(kind).context("SIGINT and SIGTERM cannot be received");
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    bail!("interrupted: its processes have ended, and its files are removed")
}
