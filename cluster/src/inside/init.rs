//! A node's process 1.

use crate::{
    Error, cgroup,
    error::Doing,
    inside::{mounts, supervisor::Supervisor},
    network,
    node::Plan,
    record,
};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::{fs, path::Path};

/// The group of the node's own processes, so that the node's topmost group has none.
pub(crate) const GROUP: &str = "system";

/// Prepares the node, then starts its components and keeps them running until it is told to end.
///
/// # Errors
/// The node could not be prepared. What a component does wrong is in its log and in the node's status.
pub fn init(folder: &Path) -> Result<(), Error> {
    set_parent_process_death_signal(Some(Signal::KILL)).doing(|| "tie this node to its outer process".into())?;
    let plan: Plan = record::read(&Plan::file(folder))?;
    mounts::make(&plan)?;
    plan.write_cni()?;
    fs::write("/proc/sys/kernel/hostname", plan.name()).doing(|| "set the host's name".into())?;
    for hierarchy in cgroup::hierarchies()? {
        cgroup::create_in(&hierarchy.root, GROUP)?;
    }
    cgroup::join(GROUP)?;
    network::forward(plan.dual_stack)?;
    Supervisor::new(plan)?.run()
}
