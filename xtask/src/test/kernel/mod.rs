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
mod selection;

use super::{nextest::Counts, options::Options, reuse, runner};
use crate::{ebpf, setup, shell};
use anyhow::{Context as _, Result, bail};
use guest::Guest;
use package::Version;
use std::{fs, path::PathBuf};

/// Programs that a guest needs, and their packages.
const PROGRAMS: [(&str, &str); 4] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("cpio", "cpio"),
    ("ip", "iproute2"),
    ("cc", "build-essential"),
];

/// Guests are of this machine's architecture.
const IS_SUITABLE: bool = cfg!(target_arch = "x86_64");

/// The kernel of the short form.
const SHORT: &str = "6.1";

/// Builds what the guest runs, and runs the tests there.
pub(super) fn run(options: &Options, version: &str) -> Result<Counts> {
    // Before anything is installed or built.
    let version = Version::find(version)?;
    if !IS_SUITABLE {
        bail!("the guest runs what is built here, and its kernel is for x86-64: run this on such a machine");
    }
    set_up()?;
    runner::ensure()?;
    ebpf::build()?;
    shell::run("build", &mut shell::build_everything())?;
    on(version, &selection::filter(options, version))
}

/// Runs a few tests on the oldest kernel that there is. All has been built.
pub(super) fn short() -> Result<Counts> {
    let version = Version::find(SHORT)?;
    if !IS_SUITABLE {
        shell::say("no tests on another kernel: that takes an x86-64 machine");
        return Ok(Counts { total: 0, failed: 0 });
    }
    set_up()?;
    on(version, &selection::short(version))
}

fn set_up() -> Result<()> {
    setup::ensure_programs(&PROGRAMS, "run tests on another kernel")?;
    setup::ensure_packages(&["busybox-static"], "start another kernel")
}

/// Runs the tests there that a filter selects.
fn on(version: &Version, filter: &str) -> Result<Counts> {
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
    let mut arguments = reuse::arguments(guest::RESULTS);
    arguments.extend(["--profile", "kernel", "-E", filter].map(ToOwned::to_owned));
    let script = guest::script(version, &arguments);
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
