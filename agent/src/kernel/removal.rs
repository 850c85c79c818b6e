//! Taking everything off a node that no agent will come to.

use super::{KernelError, clsact, links::Links};
use culvert_net::Netns;
use std::{fs, io, path::Path};

/// Ends capture of every pod and removes everything that is pinned in `bpffs`, without loading anything: for a node that no agent
/// will come to. The number of attachments that were ended.
///
/// # Errors
/// A failing system call.
pub fn remove_pins(bpffs: &Path) -> Result<usize, KernelError> {
    let failed = |source| KernelError::system(format!("remove the pins in {}", bpffs.display()), source);
    let entries = match fs::read_dir(bpffs) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(failed)?,
    };
    let mut count = 0;
    for entry in entries {
        let folder = entry.map_err(failed)?.path().join("links");
        if folder.is_dir() {
            count += fs::read_dir(&folder).map_err(failed)?.count();
            Links::open(folder)?.detach_all()?;
        }
    }
    fs::remove_dir_all(bpffs).map_err(failed)?;
    Ok(count)
}

/// Removes the guards that no pin holds (those by clsact) from the node whose network namespace this is, as [`remove_pins`] does with
/// the others. The number of them.
///
/// # Errors
/// The namespace cannot be entered, or a failing system call.
pub fn remove_filters(node: &Path) -> Result<usize, KernelError> {
    let failed = |source| KernelError::system("remove guards".to_owned(), source);
    let entered = Netns::open(node).and_then(|netns| netns.run(clsact::sweep));
    entered
        .map_err(|error| failed(io::Error::other(error)))?
        .map_err(failed)
}
