//! Taking a cluster down, in whatever state it is.
//!
//! Nothing is trusted but names: control groups say which processes there are, and the names of groups and namespaces
//! say whose they are. So it does not matter at which moment somebody was killed.

use crate::{Error, cgroup, error::Doing, layout::Layout, machine, network};
use std::{fs, io};

pub(crate) fn down(layout: &Layout) -> Result<(), Error> {
    if let Some(other) = machine::claimed_elsewhere(layout.name(), layout.folder()) {
        return Err(Error::Exists {
            name: layout.name().to_owned(),
            state: other,
        });
    }
    let groups: Vec<String> = cgroup::with_prefix(&layout.prefix())?
        .into_iter()
        .filter(|group| layout.owns(group))
        .collect();
    cgroup::kill(&groups)?;
    cgroup::remove(&groups)?;
    for netns in network::with_prefix(&layout.prefix()) {
        if layout.owns(&netns) {
            network::remove(&netns)?;
        }
    }
    // Last of all: what is left after a failure above can still be found and taken down.
    match fs::remove_dir_all(layout.folder()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("remove {}", layout.folder().display()))?;
        }
        _ => {}
    }
    machine::release(layout.name())
}
