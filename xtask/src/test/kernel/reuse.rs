//! nextest without cargo: what it would ask cargo about the workspace and the test programs, written to files before.

use crate::shell;
use anyhow::{Context as _, Result};
use std::{fs, path::Path};

const BINARIES: &str = "binaries.json";
const WORKSPACE: &str = "workspace.json";

/// Where the guest has the folder of results.
pub(super) const RESULTS: &str = "/run/results";

/// Writes them into the folder of results. All has been built.
pub(super) fn write(results: &Path) -> Result<()> {
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
        let path = results.join(name);
        let text = shell::output(&mut command)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// How nextest is started in the guest, after its own name.
pub(super) fn arguments(filter: &str) -> Vec<String> {
    let file = |name: &str| format!("{RESULTS}/{name}");
    ["nextest", "run", "--profile", "kernel", "--no-fail-fast"]
        .map(ToOwned::to_owned)
        .into_iter()
        .chain(["--binaries-metadata".to_owned(), file(BINARIES)])
        .chain(["--cargo-metadata".to_owned(), file(WORKSPACE)])
        .chain(["-E".to_owned(), filter.to_owned()])
        .collect()
}
