//! `cargo xtask build-ebpf`: the kernel programs, with a compiler and a linker that it finds or installs.
//!
//! `core` has to be built for the eBPF target, which takes the source of the standard library and a compiler that allows
//! it: rustup's nightly with `rust-src`, or Debian's `rustc-web` with `RUSTC_BOOTSTRAP`. The linker, bpf-linker, reads
//! what the compiler's LLVM wrote, so it must be built with an LLVM that is not older.

use crate::{setup, shell};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const LINKER: &str = "bpf-linker";
const LINKER_VERSION: &str = "0.13.0";
/// The LLVM that the linker is built with; compilers with a newer one are passed over.
const LLVM: u32 = 22;
const LLVM_PACKAGE: &str = "llvm-22-dev";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const COMPILER_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
const WHY: &str = "build the kernel programs";

#[cfg(target_endian = "little")]
const TARGET: &str = "bpfel-unknown-none";
#[cfg(target_endian = "big")]
const TARGET: &str = "bpfeb-unknown-none";

/// Options of `cargo xtask build-ebpf`.
#[derive(clap::Args, Default)]
pub(crate) struct Options {}

/// Builds the kernel programs and says where they are.
pub(crate) fn run(_options: &Options) -> Result<()> {
    println!("{}", build()?.display());
    Ok(())
}

/// Builds the kernel programs, and returns the path of the object file that the agent embeds. Takes seconds when
/// nothing has changed.
pub(crate) fn build() -> Result<PathBuf> {
    let compiler = Compiler::find()?;
    let linker = ensure_linker()?;
    // The folder may be given relative to the root, and cargo runs elsewhere below.
    let out = shell::root().join(shell::target()).join("ebpf");
    let build = out.join("build");

    let mut cargo = compiler.cargo();
    cargo
        .current_dir(shell::root().join("ebpf"))
        .args([
            "build",
            "--release",
            "--locked",
            "--quiet",
            "-Z",
            "build-std=core",
            "--target",
            TARGET,
        ])
        .env("CARGO_TARGET_DIR", &build)
        .env(for_target("LINKER"), &linker)
        .env(for_target("RUSTFLAGS"), "-Cdebuginfo=2 -Clink-arg=--btf");
    // Meant for the programs that run here, and stronger than what is set above.
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
    ] {
        cargo.env_remove(name);
    }
    shell::run(
        &format!("build the kernel programs with {}", compiler.name()),
        &mut cargo,
    )?;

    let object = out.join("culvert.o");
    copy_if_changed(&build.join(TARGET).join("release/culvert"), &object)?;
    Ok(object)
}

enum Compiler {
    /// A nightly toolchain of rustup's that has `rust-src`.
    Rustup(String),
    /// Debian's packages, which are newer than the rest of Debian because browsers need them.
    Debian,
}

impl Compiler {
    fn find() -> Result<Self> {
        if let Some(toolchain) = nightly_with_source() {
            return Ok(Self::Rustup(toolchain));
        }
        setup::ensure_packages(&COMPILER_PACKAGES, WHY).context(
            "no compiler for the kernel programs: rustup has no nightly toolchain with rust-src either \
             (`rustup toolchain install nightly --component rust-src` would do)",
        )?;
        Ok(Self::Debian)
    }

    fn name(&self) -> String {
        match self {
            Self::Rustup(toolchain) => format!("rustup's {toolchain}"),
            Self::Debian => "Debian's rustc-web".to_owned(),
        }
    }

    fn cargo(&self) -> Command {
        match self {
            Self::Rustup(toolchain) => {
                let mut command = shell::command("rustup");
                command.args(["run", toolchain, "cargo"]);
                // Set by the cargo that runs us, and stronger than rustup's choice.
                for name in ["RUSTC", "RUSTDOC", "CARGO"] {
                    command.env_remove(name);
                }
                command
            }
            Self::Debian => {
                let mut command = shell::command("/usr/bin/cargo");
                command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
                command
            }
        }
    }
}

/// A nightly toolchain that can build `core` and whose LLVM is not newer than the linker's.
fn nightly_with_source() -> Option<String> {
    if !shell::on_path("rustup") {
        return None;
    }
    let list = shell::output(shell::command("rustup").args(["toolchain", "list"])).ok()?;
    list.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|toolchain| toolchain.starts_with("nightly"))
        .find(|toolchain| is_suitable(toolchain))
        .map(ToOwned::to_owned)
}

fn is_suitable(toolchain: &str) -> bool {
    let rustc =
        |args: &[&str]| shell::output(shell::command("rustup").args(["run", toolchain, "rustc"]).args(args)).ok();
    let Some(sysroot) = rustc(&["--print", "sysroot"]) else {
        return false;
    };
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    source.is_file()
        && rustc(&["-vV"])
            .and_then(|version| llvm_major(&version))
            .is_some_and(|major| major <= LLVM)
}

/// From the output of `rustc -vV`.
fn llvm_major(version: &str) -> Option<u32> {
    let line = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.trim().parse().ok()
}

/// Our own bpf-linker, of exactly the version that is known to work.
fn ensure_linker() -> Result<PathBuf> {
    let program = shell::tools().join("bin").join(LINKER);
    if version_of(&program).as_deref() == Some(LINKER_VERSION) {
        return Ok(program);
    }
    setup::ensure_packages(
        &[LLVM_PACKAGE],
        &format!("build {LINKER}, which links the kernel programs"),
    )?;
    shell::say(&format!(
        "{LINKER} {LINKER_VERSION} is needed to {WHY}: building it once (about two minutes)"
    ));
    let mut install = shell::cargo();
    install
        .args([
            "install",
            LINKER,
            "--version",
            LINKER_VERSION,
            "--locked",
            "--force",
            "--root",
        ])
        .arg(shell::tools())
        .args(["--no-default-features", "--features", "llvm-22"])
        .env("LLVM_PREFIX", LLVM_PREFIX);
    shell::run(&format!("build {LINKER}"), &mut install)?;
    match version_of(&program) {
        Some(version) if version == LINKER_VERSION => Ok(program),
        found => bail!(
            "{} says that its version is {found:?}, not {LINKER_VERSION}",
            program.display()
        ),
    }
}

/// None when the program is absent or does not run, for example because its LLVM was removed.
fn version_of(program: &Path) -> Option<String> {
    let text = shell::output(Command::new(program).arg("--version")).ok()?;
    text.trim()
        .strip_prefix(LINKER)
        .map(|version| version.trim().to_owned())
}

/// The variable by which cargo is told something for the eBPF target alone.
fn for_target(what: &str) -> String {
    format!("CARGO_TARGET_{}_{what}", TARGET.to_uppercase().replace('-', "_"))
}

/// Keeps the time of an unchanged object, so that the agent is not built anew.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("no kernel programs at {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    // Renamed into place: another build may be reading it.
    let partial = to.with_extension("partial");
    fs::write(&partial, new).with_context(|| format!("cannot write {}", partial.display()))?;
    fs::rename(&partial, to).with_context(|| format!("cannot write {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_version_is_read_from_rustc() {
        let text = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n";
        assert_eq!(llvm_major(text), Some(22));
        assert_eq!(llvm_major("rustc 1.95.0"), None);
    }

    #[test]
    fn cargo_is_told_about_the_target_alone() {
        assert!(for_target("LINKER").ends_with("_UNKNOWN_NONE_LINKER"));
    }
}
