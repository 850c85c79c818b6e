//! Processes that outlive whoever starts them: known by process id and start time, which together are never reused.

use crate::{Error, cgroup, error::Doing, wait};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// How a process of the cluster is to be started.
pub(crate) struct Start<'a> {
    /// The program `culvert-cluster`, which puts itself into place and then becomes the wanted program.
    pub(crate) launcher: &'a Path,
    /// Control group, without a slash.
    pub(crate) group: &'a str,
    /// Network namespace.
    pub(crate) netns: &'a Path,
    /// What to run, with its arguments.
    pub(crate) program: Vec<String>,
    /// Where its output goes, at the end of what is there.
    pub(crate) log: &'a Path,
    /// Where its identity is written.
    pub(crate) record: &'a Path,
    /// Its standard input; nothing if there is none.
    pub(crate) input: Stdio,
}

/// A process, running or not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pid: i32,
    /// In clock ticks since the machine started.
    started: u64,
}

impl Process {
    pub(crate) fn start(start: Start<'_>) -> Result<Self, Error> {
        let log = open_log(start.log)?;
        let errors = log.try_clone().doing(|| "duplicate a descriptor".into())?;
        let mut command = Command::new(start.launcher);
        command
            .args(["run", "--group", start.group, "--netns"])
            .arg(start.netns)
            .arg("--");
        command
            .args(&start.program)
            .stdin(start.input)
            .stdout(log)
            .stderr(errors);
        // Nothing of the caller's cargo or shell is the cluster's business.
        command
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", "/root")
            .current_dir("/");
        let child = command
            .spawn()
            .doing(|| format!("start {} with {}", start.program[0], start.launcher.display()))?;
        let process = Self::of(i32::try_from(child.id()).unwrap_or_default()).unwrap_or(Self { pid: 0, started: 0 });
        let text = format!("{} {}\n", process.pid, process.started);
        fs::write(start.record, text).doing(|| format!("write {}", start.record.display()))?;
        Ok(process)
    }

    /// The process that has this id now.
    pub fn of(pid: i32) -> Option<Self> {
        let (_, started) = state_of(pid)?;
        Some(Self { pid, started })
    }

    pub(crate) fn recorded(record: &Path) -> Option<Self> {
        let text = fs::read_to_string(record).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        Some(Self {
            pid: pid.parse().ok()?,
            started: started.parse().ok()?,
        })
    }

    /// Its network namespace.
    pub fn netns(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.pid))
    }

    /// Its id on the machine.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it runs. A process that has ended and that nobody has waited for yet does not.
    pub fn is_alive(&self) -> bool {
        // A child of ours that has ended is waited for here, so that it does not stay in the process table.
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
        state_of(self.pid).is_some_and(|(state, started)| started == self.started && state == State::Alive)
    }

    /// Kills it with SIGKILL; returns when it has ended.
    ///
    /// # Errors
    /// It may not be killed.
    pub fn kill(&self) -> Result<(), Error> {
        self.end(Signal::KILL, &format!("process {}", self.pid))
    }

    /// Sends a signal, if it still runs.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Error> {
        let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.is_alive()) else {
            return Ok(());
        };
        match kill_process(pid, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            other => other.doing(|| format!("send signal {} to process {}", signal.as_raw(), self.pid)),
        }
    }

    /// Sends a signal and waits until it has ended.
    pub(crate) fn end(&self, signal: Signal, what: &str) -> Result<(), Error> {
        self.signal(signal)?;
        wait::wait_until(&format!("end of {what}"), Duration::from_secs(15), || !self.is_alive())
    }
}

/// Where programs of Debian packages are; kept short and known, whoever calls.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Processes of the groups that run the program `name`: their executable, or their own first argument, is called so.
pub(crate) fn running(groups: &[String], name: &str) -> Result<Vec<Process>, Error> {
    let found = cgroup::processes(groups)?;
    Ok(found
        .into_iter()
        .filter(|pid| runs(*pid, name))
        .filter_map(Process::of)
        .filter(Process::is_alive)
        .collect())
}

fn runs(pid: i32, name: &str) -> bool {
    let named = |path: &Path| path.file_name().is_some_and(|file| file == name);
    let executable = fs::read_link(format!("/proc/{pid}/exe"));
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let first = arguments.split(|byte| *byte == 0).next().unwrap_or_default();
    executable.is_ok_and(|path| named(&path)) || named(&PathBuf::from(String::from_utf8_lossy(first).into_owned()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Alive,
    /// None of its threads is left, and nobody has waited for it yet.
    Ended,
}

/// State and start time of a process, from `/proc/PID/stat`.
fn state_of(pid: i32) -> Option<(State, u64)> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The first thread of one that was killed may be gone before the others, which still hold its sockets: the line then says `Z`,
/// and how many there are.
fn parse_stat(stat: &str) -> Option<(State, u64)> {
    // The name is in parentheses and may hold anything; after it come the state, as the 17th word after that the number of
    // threads, and two later the start time.
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    let letter = words.next()?;
    let threads: u32 = words.nth(16)?.parse().ok()?;
    let state = match letter {
        "X" => State::Ended,
        "Z" if threads <= 1 => State::Ended,
        _ => State::Alive,
    };
    Some((state, words.nth(1)?.parse().ok()?))
}

fn open_log(path: &Path) -> Result<File, Error> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .doing(|| format!("open {}", path.display()))
}

/// The last lines of a log, for an error message.
pub(crate) fn tail(log: &Path) -> String {
    let text = match fs::read(log) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return "(nothing was logged)".into(),
        Err(error) => return format!("({error})"),
    };
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Runs a program of the machine to its end; its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, Error> {
    let shown = format!("{command:?}").replace('"', "");
    let output = command.output().doing(|| format!("start {shown}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Program {
        program: shown,
        message: format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_id_that_was_reused_is_another_process() {
        let this = Process::of(std::process::id().try_into().unwrap()).unwrap();
        assert!(this.is_alive());
        let earlier = Process {
            started: this.started - 1,
            ..this
        };
        assert!(!earlier.is_alive());
        assert!(Process::of(-1).is_none());
    }

    #[test]
    fn one_whose_first_thread_alone_is_gone_still_holds_what_it_held() {
        let line = |letter, threads| {
            format!("7 (a) b) {letter} 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 {threads} 0 4711 8192 1 0")
        };
        assert_eq!(parse_stat(&line("S", 9)), Some((State::Alive, 4711)));
        assert_eq!(parse_stat(&line("Z", 9)), Some((State::Alive, 4711)));
        assert_eq!(parse_stat(&line("Z", 1)), Some((State::Ended, 4711)));
        assert_eq!(parse_stat(&line("X", 1)), Some((State::Ended, 4711)));
        assert_eq!(parse_stat("7 (a"), None);
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = Command::new("true").spawn().unwrap();
        let process = Process::of(child.id().try_into().unwrap()).unwrap();
        wait::wait_until("end", Duration::from_secs(5), || !process.is_alive()).unwrap();
        // Looking has reaped it.
        assert!(child.wait().is_err());
    }
}
