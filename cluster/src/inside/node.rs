//! A node's outermost process: as long as it lives the node has power.

use crate::{Error, component::INIT_RECORD, error::Doing, node::Plan, record};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::{fs, path::Path, process::Command};

/// Makes the node's namespaces around what this process starts next, starts the node's process 1, and waits for it.
///
/// Called in the node's group and network namespace; see `run`. The kernel kills process 1 when this process ends, and
/// with process 1 every process and every mount of the node: that is a power cut.
///
/// # Errors
/// The namespaces or the process could not be made, or process 1 failed.
pub fn node(folder: &Path) -> Result<(), Error> {
    let plan: Plan = record::read(&Plan::file(folder))?;
    let flags = UnshareFlags::NEWNS
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWCGROUP
        | UnshareFlags::NEWPID;
    // SAFETY: the descriptor table is not unshared, and this process has a single thread.
    unsafe { unshare_unsafe(flags) }.doing(|| format!("make the namespaces of {}", plan.name()))?;
    let program = std::env::current_exe().doing(|| "find this program".into())?;
    let mut process = Command::new(program)
        .arg("init")
        .arg(folder)
        .spawn()
        .doing(|| format!("start {}", plan.name()))?;
    let file = plan.path(INIT_RECORD);
    fs::write(&file, process.id().to_string()).doing(|| format!("write {}", file.display()))?;
    let status = process.wait().doing(|| format!("wait for {}", plan.name()))?;
    Err(Error::Program {
        program: plan.name(),
        message: format!("its process 1 ended: {status}"),
    })
}
