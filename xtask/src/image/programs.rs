//! The programs that go into images: built, and freed of what only a debugger reads.

use super::{
    catalogue::{Linkage, Program},
    cross::Tools,
    elf::Elf,
    platform::Platform,
    profile::Profile,
};
use crate::{ebpf, shell};
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The cargo profile of programs that are copied to hosts: as small as they can be.
const SMALL: &str = "cni";

/// Builds programs for the platform of `tools`, and returns where the stripped copy of each is, by the program's name.
pub(super) fn build<'a>(
    programs: &[&'a Program],
    profile: Profile,
    tools: &Tools,
    platform: Platform,
    out: &Path,
) -> Result<BTreeMap<&'a str, PathBuf>> {
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
    let dynamic_folder = folder.join(tools.target().unwrap_or_default()).join(profile.folder());
    let static_folder = folder.join(platform.triple()).join(SMALL);
    if !dynamic.is_empty() {
        let mut cargo = match (profile, tools.target()) {
            (Profile::Tests, None) => shell::build_everything(),
            (_, None) => build_command(tools.cargo(&[]), &dynamic),
            (_, Some(target)) => {
                let mut cargo = build_command(tools.cargo(&[]), &dynamic);
                cargo.args(["--target", target]);
                cargo
            }
        };
        cargo.args(profile.cargo_arguments());
        shell::run(&format!("build the images' programs for {platform}"), &mut cargo)?;
    }
    if !fixed.is_empty() {
        let mut cargo = build_command(tools.cargo(&["-C", "target-feature=+crt-static"]), &fixed);
        // With the target named, its flags do not reach build scripts and macros, which cannot be static.
        cargo.args(["--profile", SMALL, "--target", platform.triple()]);
        shell::run(&format!("build the images' static programs for {platform}"), &mut cargo)?;
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
        strip(tools.strip(), &from.join(program.binary), &copy, profile)?;
        if program.linkage == Linkage::Static {
            check_static(&copy)?;
        }
        found.insert(program.binary, copy);
    }
    Ok(found)
}

fn build_command(mut cargo: Command, programs: &[&Program]) -> Command {
    cargo.args(["build", "--locked"]);
    for program in programs {
        cargo.args(["--package", program.package, "--bin", program.binary]);
    }
    cargo
}

/// Copies a program without debug information, and without names of functions in a release.
fn strip(mut strip: Command, program: &Path, copy: &Path, profile: Profile) -> Result<()> {
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
    shell::output(strip.arg(how).arg("-o").arg(copy).arg(program)).map(drop)
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
        let said = strip(
            Command::new("strip"),
            Path::new("/nowhere/program"),
            Path::new("/dev/null"),
            Profile::Dev,
        )
        .unwrap_err();
        assert!(said.to_string().contains("/nowhere/program"));
    }
}
