//! The suite and its applications, built beside the tests on a cluster: those mostly wait, and Go's compiler takes minutes.

use super::programs;
use crate::shell;
use anyhow::{Context as _, Result, bail};
use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Instant,
};

/// How many of the build's last lines are in the error when it fails.
const LAST_LINES: usize = 30;

/// A build under way, which ends with this value.
pub(crate) struct Ahead {
    build: Child,
    /// All that it prints.
    log: PathBuf,
}

impl Ahead {
    /// Begins it: on one processor, and only when nobody else wants that.
    pub(crate) fn begin() -> Result<Self> {
        let folder = programs::folder();
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // By the process, not by the file's name: the tests' own build may put another file in its place any time.
        let this = format!("/proc/{}/exe", std::process::id());
        let mut build = shell::command("nice");
        build
            .args(["-n", "19", &this])
            .args(["conformance", "--build-only"])
            .env("GOMAXPROCS", "1");
        let begun = Self::run(build, folder.join("build.log"))?;
        shell::say(&format!(
            "the conformance suite is built meanwhile; what that prints is in {}",
            begun.log.display()
        ));
        Ok(begun)
    }

    fn run(mut build: Command, log: PathBuf) -> Result<Self> {
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let other = file.try_clone().context("cannot share a file")?;
        let build = build
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(other)
            // Of its own, so that the compiler ends with it.
            .process_group(0)
            .spawn()
            .context("cannot start the suite's build")?;
        Ok(Self { build, log })
    }

    /// Waits until it is done.
    ///
    /// # Errors
    /// It failed: with its last lines.
    pub(crate) fn wait(mut self) -> Result<()> {
        let started = Instant::now();
        let status = self.build.wait().context("cannot wait for the suite's build")?;
        shell::took("the rest of the conformance suite's build", started.elapsed());
        succeeded(status, &self.log)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // Nobody waits for it any more, unless it has ended and been waited for.
        if let Ok(None) = self.build.try_wait()
            && let Ok(group) = i32::try_from(self.build.id())
        {
            // SAFETY: kill takes two numbers. The group is the child's own, which has not been waited for, so that its number is
            // nobody else's.
            let _ended = unsafe { libc::kill(-group, libc::SIGKILL) };
            let _status = self.build.wait();
        }
    }
}

fn succeeded(status: ExitStatus, log: &Path) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
    bail!(
        "the conformance suite's build ended with {status}; the end of {}:\n{}",
        log.display(),
        last.join("\n")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(script: &str, name: &str) -> Ahead {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let log = std::env::temp_dir().join(format!("culvert-ahead-{name}-{}", std::process::id()));
        Ahead::run(command, log).unwrap()
    }

    #[test]
    fn a_build_that_fails_is_told_where_it_is_waited_for_with_its_last_lines() {
        let ahead = running("echo begun; echo 'no such module' >&2; exit 1", "fails");
        let log = ahead.log.clone();
        let said = ahead.wait().unwrap_err().to_string();
        fs::remove_file(log).unwrap();
        assert!(said.contains("begun\nno such module"), "{said}");
    }

    #[test]
    fn a_build_that_nobody_waits_for_ends_and_its_compiler_with_it() {
        let ahead = running("sleep 600 & echo $!; wait", "given-up");
        let log = ahead.log.clone();
        let deadline = Instant::now() + std::time::Duration::from_secs(60);
        let compiler = loop {
            let text = fs::read_to_string(&log).unwrap();
            if let Some(compiler) = text.strip_suffix('\n') {
                break compiler.to_owned();
            }
            assert!(Instant::now() < deadline, "the build does not begin");
            std::thread::yield_now();
        };
        drop(ahead);
        fs::remove_file(log).unwrap();
        // It was not this process's child: that it is gone, somebody else notices.
        let runs = || fs::read_to_string(format!("/proc/{compiler}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        while runs() {
            assert!(Instant::now() < deadline, "the compiler still runs");
            std::thread::yield_now();
        }
    }
}
