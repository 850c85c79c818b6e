//! Tests on another kernel than this machine's: `cargo xtask test --kernel 6.1`.
//!
//! Debian's kernel of that version ([`package`]) boots under QEMU, without KVM and without a network, from an initramfs of ours
//! ([`initramfs`]) that mounts this machine's files read-only, with what is written there kept in memory, and cgroup version 2 alone.
//! Then it runs the test programs that are built here, those of [`selection`], with the same test runner. [`guest`] starts the machine,
//! shows what it prints, ends it when it hangs, and fetches the report that counts are read from.
//!
//! The guest needs no cargo: what it would ask cargo is asked here before ([`reuse`]).

mod guest;
mod initramfs;
mod package;
mod reuse;
mod selection;

use super::{nextest::Counts, options::Options, runner};
use crate::{ebpf, setup, shell};
use anyhow::{Context as _, Result};
use guest::Guest;
use package::Version;
use std::{fs, path::PathBuf};

/// Programs that a guest needs, and their packages.
const PROGRAMS: [(&str, &str); 5] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("ip", "iproute2"),
    ("cc", "build-essential"),
];

/// Builds what the guest runs, and runs the tests there.
pub(super) fn run(options: &Options, version: &str) -> Result<Counts> {
    // Before anything is installed or built.
    let version = Version::find(version)?;
    setup::ensure_programs(&PROGRAMS, "run tests on another kernel")?;
    setup::ensure_packages(&["busybox-static"], "start another kernel")?;
    runner::ensure()?;
    ebpf::build()?;
    shell::run("build", &mut shell::build_everything())?;
    on(options, version)
}

/// Runs the tests there, once everything is built.
fn on(options: &Options, version: &Version) -> Result<Counts> {
    let folder = folder(version);
    let kernel = version.ensure(&folder)?;
    shell::say(&format!("Debian's {} {}", kernel.package, kernel.version));
    for (test, reason) in version.left_out {
        shell::say(&format!("left out: {test}: {reason}"));
    }
    let results = folder.join("results");
    match fs::remove_dir_all(&results) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", results.display()));
        }
        _ => fs::create_dir_all(&results).with_context(|| format!("cannot make {}", results.display()))?,
    }
    reuse::write(&results)?;
    let script = guest::script(version, &reuse::arguments(&selection::filter(options, version)));
    guest::write_script(&results, &script)?;
    let guest = Guest {
        initramfs: initramfs::build(&kernel, &folder)?,
        kernel: kernel.image,
        results,
    };
    guest.run()
}

/// What belongs to one version, below the folder that cargo builds into.
fn folder(version: &Version) -> PathBuf {
    shell::root().join(shell::target()).join("kernels").join(version.name)
}
