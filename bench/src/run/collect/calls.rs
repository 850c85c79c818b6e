//! System calls of processes, counted by perf (the event `raw_syscalls:sys_enter`).

use crate::usage;
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Child, Command, Stdio};

/// perf while it counts.
pub(in crate::run) struct Calls(Child);

impl Calls {
    /// Whether they can be counted here.
    ///
    /// # Errors
    /// Why not.
    pub(in crate::run) fn check() -> Result<()> {
        let output = Command::new("perf")
            .args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "true"])
            .output()
            .context("system calls are counted by perf (Debian's package linux-perf)")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let counted = parse(&said);
        ensure!(
            counted.is_some_and(|count| count > 0),
            "perf counts no system calls here: {}",
            said.trim()
        );
        Ok(())
    }

    /// Begins to count those of these processes with all their descendants.
    pub(in crate::run) fn begin(roots: &[u32]) -> Result<Self> {
        let processes: Vec<_> = usage::families(roots)?.iter().map(ToString::to_string).collect();
        let child = Command::new("perf")
            .args([
                "stat",
                "-x,",
                "-e",
                "raw_syscalls:sys_enter",
                "-p",
                &processes.join(","),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start perf")?;
        Ok(Self(child))
    }

    /// Ends counting: how many there were.
    pub(in crate::run) fn end(self) -> Result<u64> {
        let pid = i32::try_from(self.0.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("process id")?;
        // It writes its counts when it is interrupted.
        kill_process(pid, Signal::INT).context("interrupt perf")?;
        let output = self.0.wait_with_output().context("wait for perf")?;
        let said = String::from_utf8_lossy(&output.stderr);
        parse(&said).with_context(|| format!("perf counted nothing: {}", said.trim()))
    }
}

/// The count in front of the event's name.
fn parse(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains("raw_syscalls:sys_enter"))?;
    line.split(',').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_count_is_in_the_first_column_if_there_is_one() {
        assert_eq!(
            parse("# started\n1234,,raw_syscalls:sys_enter,1000,100.00,,\n"),
            Some(1234)
        );
        assert_eq!(parse("<not supported>,,raw_syscalls:sys_enter,0,100.00,,\n"), None);
    }
}
