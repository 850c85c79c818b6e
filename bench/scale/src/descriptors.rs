//! As many open files as nodes need, here and in the controller, which has the limits of who starts it.

use anyhow::{Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files beside the nodes' connections; reconnecting nodes may be there twice for a moment.
const OTHERS: u64 = 256;

/// Raises the limit as far as it may be.
///
/// # Errors
/// When that is too few for so many nodes.
pub(crate) fn raise(nodes: usize) -> Result<()> {
    let wanted = 2 * nodes as u64 + OTHERS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let maximum = limit.maximum.unwrap_or(u64::MAX);
    ensure!(
        maximum >= wanted,
        "{nodes} nodes need {wanted} open files, and no more than {maximum} are allowed: raise the limit (ulimit -Hn), or take \
         fewer --nodes"
    );
    let raised = Rlimit {
        current: Some(wanted),
        ..limit
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}
