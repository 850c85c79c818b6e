//! The optimised build of what is measured.

use crate::shell;
use std::process::Command;

/// The packages whose release builds are measured, the one that measures, and the lab with the programs that it finds beside itself.
const PACKAGES: [&str; 5] = [
    "culvert-agent",
    "culvert-ztunnel",
    "culvert-controller",
    "culvert-bench",
    "culvert-lab",
];
/// Builds all that is measured always.
pub(super) fn release_build() -> Command {
    let mut build = shell::cargo();
    build.args(["build", "--release", "--locked"]);
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    build
}
