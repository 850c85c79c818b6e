//! The plug-in's program in the folder where container runtimes look for it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use culvert_cni::config::PLUGIN_TYPE;

use super::{InstallError, files, step};

/// Everybody may run it, as all plug-ins there.
const MODE: u32 = 0o755;

/// What was compared last. Comparing half a megabyte every two seconds would be waste.
#[derive(Debug, Default)]
pub(super) struct Memory {
    compared: Option<[Identity; 2]>,
}

/// Changes whenever a file's content or permissions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    length: u64,
    mode: u32,
    changed: (i64, i64),
}

pub(super) fn path_in(bin_dir: &Path) -> PathBuf {
    bin_dir.join(PLUGIN_TYPE)
}

/// Copies the program there unless the same bytes are there already.
pub(super) fn place(source: &Path, bin_dir: &Path, memory: &mut Memory) -> Result<(), InstallError> {
    let target = path_in(bin_dir);
    let source_is = identity(source).map_err(step("cannot find the CNI plug-in's program", source))?;
    if let Ok(target_is) = identity(&target)
        && memory.compared == Some([source_is, target_is])
    {
        return Ok(());
    }
    let program = fs::read(source).map_err(step("cannot read the CNI plug-in's program", source))?;
    let is_there = fs::read(&target).is_ok_and(|present| present == program);
    if !is_there || files::mode_of(&target).is_ok_and(|mode| mode != MODE) {
        files::replace(&target, &program, MODE).map_err(step("cannot write", &target))?;
        tracing::info!(file = %target.display(), "the CNI plug-in's program is in place");
    }
    let target_is = identity(&target).map_err(step("cannot find", &target))?;
    memory.compared = Some([source_is, target_is]);
    Ok(())
}

fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = fs::metadata(path)?;
    Ok(Identity {
        device: metadata.dev(),
        inode: metadata.ino(),
        length: metadata.len(),
        mode: metadata.mode(),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}
