//! The Go toolchain: found on `PATH`, or obtained.

use crate::shell::{self, say};
use anyhow::{Context as _, Result, bail};
use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// The oldest minor version that builds Kubernetes 1.34.
const MINOR: u32 = 24;

/// The Go command.
pub(crate) fn command() -> Result<Command> {
    if minor("go").is_some_and(|minor| minor >= MINOR) {
        return Ok(Command::new("go"));
    }
    bail!(
        "Go 1.{MINOR} or later is needed to build Kubernetes, and there is none on PATH: see https://go.dev/doc/install"
    );
}

/// The minor version of a Go command, if it runs.
fn minor(go: &str) -> Option<u32> {
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
