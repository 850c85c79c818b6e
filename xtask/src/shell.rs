//! Running programs: in the repository's root, with one line on standard error that says what runs and why.

use anyhow::{Context, Result, bail};
use std::{
    ffi::OsStr,
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::{Duration, Instant},
};

/// What has run so far, and how long it took.
static STAGES: Mutex<Vec<(String, Duration)>> = Mutex::new(Vec::new());

/// The repository's root folder.
pub(crate) fn root() -> PathBuf {
    // xtask/ is a folder of the root; the path is fixed when cargo builds this program, just before it runs it.
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The folder that cargo builds into.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Where `setup` installs what no package provides.
pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}

/// The cargo that runs this program.
pub(crate) fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Builds with all targets, so that features are the same as for the tests, and nothing is built twice.
pub(crate) fn build_everything() -> Command {
    let mut cargo = cargo();
    cargo.args(["build", "--workspace", "--all-targets", "--locked"]);
    cargo
}

/// A program to be started in the repository's root, with our own tools ahead on its `PATH`.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(tools().join("bin")).chain(std::env::split_paths(&path));
    if let Ok(path) = std::env::join_paths(dirs) {
        command.env("PATH", path);
    }
    command
}

/// Runs a program to its end; an exit code other than 0 is an error. What it prints goes to standard error: standard output is
/// kept for this program's own results, which other programs read.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<()> {
    let started = Instant::now();
    say(&format!("{what}: {}", shown(command)));
    let status = command
        .stdout(io::stderr().as_fd().try_clone_to_owned()?)
        .status()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    took(what, started.elapsed());
    if !status.success() {
        bail!("{what}: {} ended with {status}", shown(command));
    }
    say(&format!("{what}: done in {:.0} s", started.elapsed().as_secs_f32()));
    Ok(())
}

/// Notes how long a stage took, for [`stages`].
pub(crate) fn took(what: &str, time: Duration) {
    let mut stages = STAGES.lock().unwrap_or_else(PoisonError::into_inner);
    stages.push((what.to_owned(), time));
}

/// What has run so far, in order, and how long each took, as a table for people.
pub(crate) fn stages() -> String {
    let stages = STAGES.lock().unwrap_or_else(PoisonError::into_inner);
    let line = |what: &str, time: &Duration| format!("{:>6.0} s  {what}\n", time.as_secs_f32());
    let all: Duration = stages.iter().map(|(_, time)| *time).sum();
    let lines: String = stages.iter().map(|(what, time)| line(what, time)).collect();
    format!("{lines}{}", line("all of these", &all))
}

/// Runs a program and returns its standard output; its standard error is in the error when it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}: {}", shown(command), output.status, stderr.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Tells the person at the terminal what is happening; standard output is kept for results.
pub(crate) fn say(text: &str) {
    eprintln!("==> {text}");
}

/// Whether a program of this name is on `PATH` or among our tools.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::iter::once(tools().join("bin"))
        .chain(std::env::split_paths(&path))
        .chain(system)
        .any(|dir| dir.join(program).is_file())
}

/// Lets a child that handles ctrl-C finish its clean-up: the terminal signals both, and this program waits for the child.
pub(crate) fn survive_interrupts() -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let seen = Arc::new(AtomicBool::new(false));
        // The second one ends this program even when a child hangs.
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&seen))?;
        signal_hook::flag::register(signal, seen)?;
    }
    Ok(())
}

/// A command as one would type it.
fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    /// Set in the process that prints.
    const INNER: &str = "XTASK_TEST_PRINTS";

    #[test]
    fn what_a_package_manager_prints_is_not_among_the_results() {
        if std::env::var_os(INNER).is_some() {
            super::run(
                "install",
                Command::new("sh").args(["-c", "echo 'Setting up a package'"]),
            )
            .unwrap();
            return;
        }
        let this = "shell::tests::what_a_package_manager_prints_is_not_among_the_results";
        let mut again = Command::new(std::env::current_exe().unwrap());
        let output = again
            .args([this, "--exact", "--nocapture"])
            .env(INNER, "1")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(
            text(&output.stderr).contains("\nSetting up a package"),
            "{}",
            text(&output.stderr)
        );
        assert!(
            !text(&output.stdout).contains("Setting up a package"),
            "{}",
            text(&output.stdout)
        );
    }
}
