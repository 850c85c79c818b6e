//! Tests on another architecture than this machine's: `cargo xtask test --arch arm64`, and the end of the plain tests.
//!
//! The protocol libraries' unit tests are built for it and run by QEMU's user mode emulation, which translates a program and leaves its
//! system calls to this kernel. So it shows what an architecture can break in code that takes values and returns values (alignment,
//! atomics, the cryptography's own assembly), and nothing about kernel programs: their object is the same for every little-endian
//! architecture.

use super::{
    nextest::{self, Counts},
    options::Options,
    runner,
};
use crate::{
    ahead::Ahead,
    image::{Platform, Tools},
    setup,
};
use anyhow::{Context as _, Result, bail};

/// The libraries, each without the root and the namespaces that an emulated program cannot have.
const PACKAGES: [&str; 8] = [
    "culvert-abi",
    "culvert-h2core",
    "culvert-hbone",
    "culvert-identity",
    "culvert-policy",
    "culvert-xds",
    "culvert-state",
    "culvert-dns",
];

/// Begins to build and run them on the other one of the architectures that images are made for: part of all tests.
pub(super) fn begin() -> Result<Ahead> {
    let other = match Platform::host() {
        Platform::Amd64 => Platform::Arm64,
        Platform::Arm64 => Platform::Amd64,
    };
    Ahead::begin(
        "tests on another architecture",
        "arch",
        &["test", "--arch", other.architecture()],
    )
}

/// Builds and runs them on the architecture that was asked for.
pub(super) fn run(options: &Options, architecture: &str) -> Result<Counts> {
    let platform = find(architecture)?;
    runner::ensure()?;
    let tools = Tools::find(platform)?;
    let (program, library) = (platform.emulator(), format!("/usr/{}", platform.gnu()));
    setup::ensure_programs(&[(program, "qemu-user")], &format!("run programs for {platform}"))?;
    let mut cargo = tools.cargo(&[]);
    let triple = platform.triple();
    let variable = format!("CARGO_TARGET_{}_RUNNER", triple.to_uppercase().replace('-', "_"));
    cargo.env(variable, format!("{program} -L {library}")).args([
        "nextest",
        "run",
        "--locked",
        "--no-fail-fast",
        "--target",
        triple,
    ]);
    for package in PACKAGES {
        cargo.args(["--package", package]);
    }
    nextest::run_as_is(options, cargo, "arch")
}

fn find(architecture: &str) -> Result<Platform> {
    let platform = format!("linux/{architecture}").parse::<Platform>();
    let platform = platform.map_err(anyhow::Error::msg);
    let platform = platform.with_context(|| format!("there are no tests for the architecture {architecture:?}"))?;
    if platform.is_host() {
        bail!("{architecture} is this machine's own architecture: cargo xtask test");
    }
    Ok(platform)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_architecture_that_there_is_not_is_refused_with_those_that_there_are() {
        let said = format!("{:#}", find("riscv64").unwrap_err());
        assert!(said.contains("\"riscv64\"") && said.contains("linux/arm64"), "{said}");
        let own = Platform::host().architecture();
        let said = format!("{:#}", find(own).unwrap_err());
        assert!(said.contains("own architecture"), "{said}");
    }
}
