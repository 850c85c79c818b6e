//! The programs that go into images: built, and freed of what only a debugger reads.

use super::{
    catalogue::{Linkage, Program},
    elf::Elf,
    profile::Profile,
};
use crate::{ebpf, setup, shell};
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The cargo profile of programs that are copied to hosts: as small as they can be.
const SMALL: &str = "cni";

/// Builds programs, and returns where the stripped copy of each is, by the program's name.
pub(super) fn build<'a>(programs: &[&'a Program], profile: Profile, out: &Path) -> Result<BTreeMap<&'a str, PathBuf>> {
    if programs.is_empty() {
        return Ok(BTreeMap::new());
    }
    setup::ensure_programs(
        &[("cc", "build-essential"), ("strip", "binutils")],
        "build the programs that go into images",
    )?;
    let with = |linkage: Linkage| {
        programs
            .iter()
            .copied()
            .filter(move |program| program.linkage == linkage)
            .collect::<Vec<_>>()
    };
    let (dynamic, fixed) = (with(Linkage::Dynamic), with(Linkage::Static));
    if dynamic.iter().any(|program| program.package == "culvert-agent") {
        // The agent carries the kernel programs.
        ebpf::build()?;
    }
    let folder = shell::root().join(shell::target());
    let dynamic_folder = folder.join(profile.folder());
    let triple = host()?;
    let static_folder = folder.join(&triple).join(SMALL);
    if !dynamic.is_empty() {
        let mut cargo = match profile {
            Profile::Tests => shell::build_everything(),
            Profile::Dev | Profile::Release => build_command(&dynamic),
        };
        cargo.args(profile.cargo_arguments());
        shell::run("build the images' programs", &mut cargo)?;
    }
    if !fixed.is_empty() {
        let mut cargo = build_command(&fixed);
        // With the target named, its flags do not reach build scripts and macros, which cannot be static.
        cargo.args(["--profile", SMALL, "--target", &triple]);
        for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
            cargo.env_remove(variable);
        }
        let variable = format!(
            "CARGO_TARGET_{}_RUSTFLAGS",
            triple.to_uppercase().replace(['-', '.'], "_")
        );
        cargo.env(variable, "-C target-feature=+crt-static");
        shell::run("build the images' static programs", &mut cargo)?;
    }

    let bin = out.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("cannot make {}", bin.display()))?;
    let mut found = BTreeMap::new();
    for program in programs {
        let from = match program.linkage {
            Linkage::Dynamic => &dynamic_folder,
            Linkage::Static => &static_folder,
        };
        let copy = bin.join(program.binary);
        strip(&from.join(program.binary), &copy, profile)?;
        if program.linkage == Linkage::Static {
            check_static(&copy)?;
        }
        found.insert(program.binary, copy);
    }
    Ok(found)
}

/// The target that this machine's compiler builds for.
pub(super) fn host() -> Result<String> {
    let version = shell::output(shell::command("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(ToOwned::to_owned).context("rustc -vV names no host")
}

fn build_command(programs: &[&Program]) -> Command {
    let mut cargo = shell::cargo();
    cargo.args(["build", "--locked"]);
    for program in programs {
        cargo.args(["--package", program.package, "--bin", program.binary]);
    }
    cargo
}

/// Copies a program without debug information, and without names of functions in a release.
fn strip(program: &Path, copy: &Path, profile: Profile) -> Result<()> {
    if !program.is_file() {
        bail!(
            "there is no {}, though cargo built it: does CARGO_BUILD_TARGET or a configuration file change where?",
            program.display()
        );
    }
    let how = match profile {
        // Names are kept: what a panic says in a test is worth the space.
        Profile::Dev | Profile::Tests => "--strip-debug",
        Profile::Release => "--strip-all",
    };
    shell::output(Command::new("strip").arg(how).arg("-o").arg(copy).arg(program)).map(drop)
}

fn check_static(program: &Path) -> Result<()> {
    let bytes = fs::read(program).with_context(|| format!("no program at {}", program.display()))?;
    match Elf::parse(&bytes)? {
        Some(elf) if elf.is_static() => Ok(()),
        elf => bail!(
            "{} is to be static, as it runs on hosts with any library, but is {elf:?}",
            program.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_does_not_pass_as_a_static_one() {
        let said = check_static(&std::env::current_exe().unwrap()).unwrap_err().to_string();
        assert!(said.contains("libc.so.6"), "{said}");
    }

    #[test]
    fn a_program_that_was_not_built_is_named() {
        let said = strip(Path::new("/nowhere/program"), Path::new("/dev/null"), Profile::Dev).unwrap_err();
        assert!(said.to_string().contains("/nowhere/program"));
    }
}
