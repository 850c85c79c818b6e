//! In strict mode nobody reads a byte of what pods say, whatever fails: each fault that the other tests cause, seen by a tap on the link
//! between the nodes and one in each pod.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

mod certificates;
mod kernel;
mod policies;
mod programs;
mod strangers;

use culvert_tests::strict_town::StrictTown;
use std::{fs, path::PathBuf};

/// The folders of pins on a node, one for each version of the programs.
fn versions(strict: &StrictTown<'_>, node: u8) -> Vec<PathBuf> {
    let entries = fs::read_dir(strict.town.lab.node(node).bpffs()).unwrap().flatten();
    let links = entries.map(|entry| entry.path().join("links"));
    links.filter(|links| links.exists()).collect()
}
