//! Whether a folder is the one in which the node's container runtime looks for CNI plug-ins or configurations.
//!
//! An entry whose program the runtime does not find keeps every pod of the node from starting, the agent's successor included.
//! The runtime's own configuration is not ours to read; but where the other programs that the node's CNI configuration names
//! are, there it looks.

use culvert_objects::{DISTRIBUTIONS, Distribution};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Those of `programs` that a folder does not hold. A symbolic link counts: what it leads to may be outside of what is mounted.
pub(super) fn missing(bin_dir: &Path, programs: &[String]) -> Vec<String> {
    let is_missing = |program: &&String| {
        let path = bin_dir.join(program);
        !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() || metadata.is_symlink())
    };
    programs.iter().filter(is_missing).cloned().collect()
}

/// The layout whose folder holds all of `programs` on the node, whose root is `host_root`.
pub(super) fn holding(host_root: &Path, programs: &[String]) -> Option<Distribution> {
    let holds = |layout: &&Distribution| missing(&below(host_root, layout.bin_dir), programs).is_empty();
    DISTRIBUTIONS.iter().find(holds).copied()
}

/// The layout that has configurations on the node, when `conf_dir` as mounted has none.
pub(super) fn configured(host_root: &Path) -> Option<Distribution> {
    let has_some = |layout: &&Distribution| {
        let files = super::files::list(&below(host_root, layout.conf_dir)).unwrap_or_default();
        files.iter().any(|path| super::folder::is_configuration(path))
    };
    DISTRIBUTIONS.iter().find(has_some).copied()
}

fn below(host_root: &Path, folder: &str) -> PathBuf {
    host_root.join(folder.trim_start_matches('/'))
}
