//! The tools that build programs for a platform: this machine's own, or, for another platform, rustup's standard library for it
//! and a cross compiler of Debian's, which links, and compiles what is C.

use super::platform::Platform;
use crate::{setup, shell};
use anyhow::{Context as _, Result};
use std::process::Command;

/// What builds for one platform.
pub(crate) struct Tools {
    platform: Platform,
}

impl Tools {
    /// Finds what builds for the platform, and installs what is missing.
    pub(crate) fn find(platform: Platform) -> Result<Self> {
        let why = "build programs";
        setup::ensure_programs(&[("cc", "build-essential"), ("strip", "binutils")], why)?;
        if !platform.is_host() {
            let compiler = format!("gcc-{}", platform.debian_gnu());
            let library = format!("libc6-dev-{}-cross", platform.architecture());
            setup::ensure_packages(&[&compiler, &library], &format!("build programs for {platform}"))?;
            ensure_standard_library(platform)?;
        }
        Ok(Self { platform })
    }

    /// The platform's target, where cargo has to be told one: what is built for this machine needs none.
    pub(super) fn target(&self) -> Option<&'static str> {
        (!self.platform.is_host()).then(|| self.platform.triple())
    }

    /// A cargo that builds for the platform when it is told the target; `flags` are for the compiler, for this target alone.
    pub(crate) fn cargo(&self, flags: &[&str]) -> Command {
        let mut cargo = shell::cargo();
        let triple = self.platform.triple();
        let variable = |what: &str| format!("CARGO_TARGET_{}_{what}", triple.to_uppercase().replace('-', "_"));
        if !flags.is_empty() {
            // Stronger than the variable below.
            for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
                cargo.env_remove(name);
            }
            cargo.env(variable("RUSTFLAGS"), flags.join(" "));
        }
        if !self.platform.is_host() {
            let program = |name: &str| format!("{}-{name}", self.platform.gnu());
            cargo.env(variable("LINKER"), program("gcc"));
            let of_c = triple.replace('-', "_");
            cargo.env(format!("CC_{of_c}"), program("gcc"));
            cargo.env(format!("AR_{of_c}"), program("ar"));
        }
        cargo
    }

    /// The program that removes debug information.
    pub(super) fn strip(&self) -> Command {
        match self.platform.is_host() {
            true => Command::new("strip"),
            false => Command::new(format!("{}-strip", self.platform.gnu())),
        }
    }
}

/// Rust's standard library for the platform, beside that for this machine.
fn ensure_standard_library(platform: Platform) -> Result<()> {
    let mut rustc = shell::command("rustc");
    rustc.args(["--print", "target-libdir", "--target", platform.triple()]);
    let folder = shell::output(&mut rustc)?;
    if std::path::Path::new(folder.trim()).is_dir() {
        return Ok(());
    }
    let mut rustup = shell::command("rustup");
    rustup.args(["target", "add", platform.triple()]);
    shell::run(&format!("standard library for {platform}"), &mut rustup)
        .context("programs for another platform need rustup")
}
