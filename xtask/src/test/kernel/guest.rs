//! The machine: how it is started, what it is told, and what comes of it.

use super::package::Version;
use crate::{shell, test::nextest::Counts};
use anyhow::{Context as _, Result, bail};
use std::{
    collections::VecDeque,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// After so long without a line it hangs: longer than the test runner lets any test run (the profile `kernel`).
const SILENCE: Duration = Duration::from_secs(8 * 60);
/// All of it.
const LIMIT: Duration = Duration::from_secs(45 * 60);
/// How many of its last lines are in the error when it hangs.
const LAST_WORDS: usize = 30;

const REPORT: &str = "junit.xml";
/// Where the guest has the folder of results.
pub(super) const RESULTS: &str = "/run/results";

/// A machine that is ready to start.
pub(super) struct Guest {
    pub(super) kernel: PathBuf,
    pub(super) initramfs: PathBuf,
    /// The one folder of this machine that it can write to.
    pub(super) results: PathBuf,
}

impl Guest {
    /// Starts it, shows what it prints, and returns what its tests came to.
    ///
    /// # Errors
    /// It hangs, or ends without a report: with its last words.
    pub(super) fn run(&self) -> Result<Counts> {
        let started = Instant::now();
        shell::say("booting it under QEMU, without KVM: tests take many times as long as here");
        let mut child = self.command().spawn().context("cannot start qemu-system-x86_64")?;
        let output = child.stdout.take().context("QEMU has no output")?;
        let mut last = VecDeque::new();
        let ended = follow(&lines(output), started, &mut last);
        stop(&mut child, ended.is_ok());
        shell::took("tests on another kernel", started.elapsed());
        let last = || last.iter().cloned().collect::<Vec<_>>().join("\n");
        ended.with_context(|| format!("the guest was ended; its last words:\n{}", last()))?;
        let report = self.results.join(REPORT);
        let report = fs::read_to_string(&report)
            .with_context(|| format!("the guest ended without a report; its last words:\n{}", last()))?;
        Counts::from_junit(&report).context("the guest's report has no totals")
    }

    fn command(&self) -> Command {
        let mut qemu = shell::command("qemu-system-x86_64");
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "4096"])
            // No device but those below, and so no network.
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-serial", "stdio"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initramfs)
            .args(["-append", "console=ttyS0 quiet panic=-1 oops=panic mitigations=off"])
            .args([
                "-virtfs",
                "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
            ])
            .arg("-virtfs")
            .arg(format!(
                "local,path={},mount_tag=results,security_model=none",
                self.results.display()
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        qemu
    }
}

/// Shows what comes, until there is no more.
fn follow(lines: &mpsc::Receiver<String>, started: Instant, last: &mut VecDeque<String>) -> Result<()> {
    loop {
        let left = LIMIT.saturating_sub(started.elapsed());
        match lines.recv_timeout(left.min(SILENCE)) {
            Ok(line) => {
                eprintln!("    {line}");
                last.push_back(line);
                if last.len() > LAST_WORDS {
                    last.pop_front();
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
            Err(mpsc::RecvTimeoutError::Timeout) if left <= SILENCE => {
                bail!("it was not done after {} minutes", LIMIT.as_secs() / 60)
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!("nothing came from it for {} minutes", SILENCE.as_secs() / 60)
            }
        }
    }
}

fn lines(output: ChildStdout) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = printable(&String::from_utf8_lossy(&line));
            if !line.is_empty() && sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A line without what firmware and kernels send to terminals.
fn printable(line: &str) -> String {
    let mut text = String::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            // ECMA-48: ESC, then either one character, or `[` and what goes up to a letter.
            '\u{1b}' => {
                if characters.next() == Some('[') {
                    characters.by_ref().find(|one| ('@'..='~').contains(one));
                }
            }
            '\t' => text.push(' '),
            other if other.is_control() => {}
            other => text.push(other),
        }
    }
    text.trim_end().to_owned()
}

/// Ends it, unless it has ended by itself.
fn stop(child: &mut Child, has_ended: bool) {
    if !has_ended {
        // It may have ended meanwhile, which is as well.
        let _killed = child.kill();
    }
    let _status = child.wait();
}

/// What the guest does once its files are mounted.
pub(super) fn script(version: &Version, arguments: &[String]) -> String {
    let root = quoted(&shell::root().display().to_string());
    let runner = quoted(&shell::tools().join("bin/cargo-nextest").display().to_string());
    let arguments: Vec<String> = arguments.iter().map(|one| quoted(one)).collect();
    let report = shell::target().join("nextest/kernel").join(REPORT);
    let report = quoted(&shell::root().join(report).display().to_string());
    let variables: String = version.lacks.iter().map(|name| format!("export {name}=1\n")).collect();
    format!(
        "#!/bin/sh\n\
         # The guest's first process, made by `cargo xtask test --kernel`.\n\
         export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root\n\
         export NO_COLOR=1 CARGO_TERM_COLOR=never NEXTEST_STATUS_LEVEL=pass NEXTEST_HIDE_PROGRESS_BAR=1\n\
         {variables}\
         ulimit -n 65536\n\
         ip link set lo up\n\
         cd {root} || echo 'guest: no {root}'\n\
         echo \"guest: Linux $(uname -r), up after $(cut -d' ' -f1 /proc/uptime) s\"\n\
         {runner} {}\n\
         cp {report} {RESULTS}/\n\
         sync\n\
         exec /run/busybox poweroff -f\n",
        arguments.join(" ")
    )
}

/// Writes it where the guest looks for it.
pub(super) fn write_script(results: &Path, script: &str) -> Result<()> {
    let path = results.join("run");
    fs::write(&path, script)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_for_terminals_is_not_shown() {
        let line = "\u{1b}c\u{1b}[?7l\u{1b}[2J\u{1b}[0mSeaBIOS (version 1)\r";
        assert_eq!(printable(line), "SeaBIOS (version 1)");
        assert_eq!(printable("\tPASS [ 1.0s] it\u{2019}s\r"), " PASS [ 1.0s] it\u{2019}s");
        assert_eq!(printable("\u{1b}["), "");
    }

    #[test]
    fn words_reach_a_shell_as_they_are() {
        let output = shell::output(Command::new("sh").args(["-c", &format!("printf %s {}", quoted("it's $HOME"))]));
        assert_eq!(output.unwrap(), "it's $HOME");
    }

    #[test]
    fn a_guest_that_ends_has_said_all_and_its_last_lines_are_kept() {
        let (sender, receiver) = mpsc::channel();
        (0..LAST_WORDS + 5).for_each(|number| sender.send(number.to_string()).unwrap());
        drop(sender);
        let mut last = VecDeque::new();
        follow(&receiver, Instant::now(), &mut last).unwrap();
        assert_eq!((last.len(), last.front().map(String::as_str)), (LAST_WORDS, Some("5")));
    }

    #[test]
    fn a_guest_that_takes_too_long_is_given_up() {
        let (_sender, receiver) = mpsc::channel();
        let begun = Instant::now().checked_sub(LIMIT).unwrap();
        let error = follow(&receiver, begun, &mut VecDeque::new()).unwrap_err();
        assert!(error.to_string().contains("not done"), "{error}");
    }
}
