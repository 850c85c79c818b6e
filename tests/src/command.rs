//! The `culvert` command on a node of the town.

use std::{path::PathBuf, process::Command};

use crate::Town;

/// Runs `culvert` on node 1. Returns whether it found all well, and what it printed.
pub fn culvert(town: &Town<'_>, arguments: &[&str]) -> (bool, String) {
    let own = std::env::current_exe().unwrap();
    let program: PathBuf = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("culvert"))
        .find(|path| path.is_file())
        .unwrap();
    let output = town.lab.node(1).output(Command::new(program).args(arguments)).unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}
