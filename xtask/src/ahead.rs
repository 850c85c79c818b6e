//! Chores that are done beside others: tests with nodes and clusters mostly wait, and compilers and emulators take what they leave.

use crate::shell;
use anyhow::{Context as _, Result, bail};
use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Instant,
};

/// How many of a chore's last lines are in the error when it fails.
const LAST_LINES: usize = 60;

/// A chore under way, which ends with this value.
pub(crate) struct Ahead {
    what: &'static str,
    chore: Child,
    /// All that it prints.
    log: PathBuf,
}

impl Ahead {
    /// Begins one, by the arguments that this program would be given for it: only when nobody else wants a processor.
    pub(crate) fn begin(what: &'static str, name: &str, arguments: &[&str]) -> Result<Self> {
        let folder = shell::root().join(shell::target()).join("ahead");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // By the process, not by the file's name: the tests' own build may put another file in its place any time.
        let this = format!("/proc/{}/exe", std::process::id());
        let mut chore = shell::command("nice");
        chore.args(["-n", "19", &this]).args(arguments);
        // Go's compiler takes as many processors as there are otherwise, and memory for each.
        chore.env("GOMAXPROCS", "1");
        let begun = Self::run(what, chore, folder.join(format!("{name}.log")))?;
        shell::say(&format!(
            "meanwhile: {what}; what that prints is in {}",
            begun.log.display()
        ));
        Ok(begun)
    }

    fn run(what: &'static str, mut chore: Command, log: PathBuf) -> Result<Self> {
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let other = file.try_clone().context("cannot share a file")?;
        let chore = chore
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(other)
            // Of its own, so that what it starts ends with it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start: {what}"))?;
        Ok(Self { what, chore, log })
    }

    /// Waits until it is done; all that it printed.
    ///
    /// # Errors
    /// It failed: with its last lines.
    pub(crate) fn wait(mut self) -> Result<String> {
        let started = Instant::now();
        let status = self
            .chore
            .wait()
            .with_context(|| format!("cannot wait for: {}", self.what))?;
        shell::took(&format!("the rest of: {}", self.what), started.elapsed());
        let printed = fs::read_to_string(&self.log).unwrap_or_default();
        if status.success() {
            return Ok(printed);
        }
        let lines: Vec<&str> = printed.lines().collect();
        let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
        bail!(
            "{} ended with {status}; the end of {}:\n{}",
            self.what,
            self.log.display(),
            last.join("\n")
        );
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // Nobody waits for it any more, unless it has ended and been waited for.
        if let Ok(None) = self.chore.try_wait()
            && let Ok(group) = i32::try_from(self.chore.id())
        {
            // SAFETY: kill takes two numbers. The group is the child's own, which has not been waited for, so that its number is
            // nobody else's.
            let _ended = unsafe { libc::kill(-group, libc::SIGKILL) };
            let _status = self.chore.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(script: &str, name: &str) -> Ahead {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let log = std::env::temp_dir().join(format!("culvert-ahead-{name}-{}", std::process::id()));
        Ahead::run("a chore", command, log).unwrap()
    }

    #[test]
    fn a_chore_that_fails_is_told_where_it_is_waited_for_with_its_last_lines() {
        let ahead = running("echo begun; echo 'no such module' >&2; exit 1", "fails");
        let log = ahead.log.clone();
        let said = ahead.wait().unwrap_err().to_string();
        fs::remove_file(log).unwrap();
        assert!(said.contains("begun\nno such module"), "{said}");
    }

    #[test]
    fn a_chore_that_nobody_waits_for_ends_and_what_it_started_with_it() {
        let ahead = running("sleep 600 & echo $!; wait", "given-up");
        let log = ahead.log.clone();
        let deadline = Instant::now() + std::time::Duration::from_secs(60);
        let started = loop {
            let text = fs::read_to_string(&log).unwrap();
            if let Some(started) = text.strip_suffix('\n') {
                break started.to_owned();
            }
            assert!(Instant::now() < deadline, "the chore does not begin");
            std::thread::yield_now();
        };
        drop(ahead);
        fs::remove_file(log).unwrap();
        // It was not this process's child: that it is gone, somebody else notices.
        let runs = || fs::read_to_string(format!("/proc/{started}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        while runs() {
            assert!(Instant::now() < deadline, "what it started still runs");
            std::thread::yield_now();
        }
    }
}
