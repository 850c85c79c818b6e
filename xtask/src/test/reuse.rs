//! nextest without cargo, which another chore may have locked and a guest does not have: what it would ask cargo about the workspace and the
//! test programs is written to files before.

use crate::shell;
use anyhow::{Context as _, Result};
use std::{fs, path::Path};

const BINARIES: &str = "binaries.json";
const WORKSPACE: &str = "workspace.json";

/// Writes them into a folder. All has been built.
pub(super) fn write(folder: &Path) -> Result<()> {
    let mut list = shell::cargo();
    list.args([
        "nextest",
        "list",
        "--workspace",
        "--locked",
        "--list-type",
        "binaries-only",
    ])
    .args(["--message-format", "json"]);
    let mut metadata = shell::cargo();
    metadata.args(["metadata", "--format-version", "1", "--locked", "--all-features"]);
    for (name, mut command) in [(BINARIES, list), (WORKSPACE, metadata)] {
        let path = folder.join(name);
        let text = shell::output(&mut command)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// What nextest is told after its own name, with the folder as it will be seen by it.
pub(super) fn arguments(folder: &str) -> Vec<String> {
    let file = |name: &str| format!("{folder}/{name}");
    ["nextest", "run", "--no-fail-fast"]
        .map(ToOwned::to_owned)
        .into_iter()
        .chain(["--binaries-metadata".to_owned(), file(BINARIES)])
        .chain(["--cargo-metadata".to_owned(), file(WORKSPACE)])
        .collect()
}
