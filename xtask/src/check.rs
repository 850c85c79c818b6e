//! `cargo xtask check`: what must hold of the sources themselves, before anything runs.

use crate::{fuzz, imports, shell};
use anyhow::Result;

/// Imports, format, lints, and that the fuzz targets compile.
pub(crate) fn run() -> Result<()> {
    imports::check()?;
    shell::run("format", shell::cargo().args(["fmt", "--all", "--check"]))?;
    shell::run(
        "format of the kernel programs",
        shell::cargo()
            .current_dir(shell::root().join("ebpf"))
            .args(["fmt", "--all", "--check"]),
    )?;
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    shell::run("lint", shell::cargo().args(clippy))?;
    fuzz::check()
}
