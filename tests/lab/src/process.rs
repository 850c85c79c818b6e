//! Programs that run in a lab: in a namespace and a cgroup, with a log file, and never longer than they should.

use crate::{netns::Namespace, wait};
use anyhow::{Context, Result, bail};
use rustix::{
    process::{Pid, Signal, getpid, getppid, kill_process, kill_process_group, set_parent_process_death_signal},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{
    fs::{self, File},
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

/// Where a program runs.
pub(crate) struct Place<'a> {
    /// The network namespace that it starts in.
    pub(crate) namespace: &'a Namespace,
    /// The cgroup2 folder that it starts in.
    pub(crate) cgroup: &'a Path,
    /// Whether it may live on when this program ends.
    pub(crate) survives: bool,
}

/// A running program; dropping it kills it and what it started in its process group.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    survives: bool,
}

impl Process {
    /// Starts `command` at `place`, with standard output and standard error appended to `log`.
    pub(crate) fn spawn(name: &str, command: &mut Command, place: &Place<'_>, log: &Path) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| log.display().to_string())?;
        command.stdout(file.try_clone()?).stderr(file);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = start(command, place).with_context(|| format!("start {name} ({program})"))?;
        Ok(Self {
            name: name.to_owned(),
            log: log.to_owned(),
            child,
            survives: place.survives,
        })
    }

    /// [`Process::spawn`] with pipes as standard input and standard output; the log gets standard error.
    pub(crate) fn spawn_piped(
        name: &str,
        command: &mut Command,
        place: &Place<'_>,
        log: &Path,
        stdin: OwnedFd,
        stdout: OwnedFd,
    ) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| log.display().to_string())?;
        command.stdout(stdout).stderr(file);
        let child = start_with_stdin(command, place, Some(stdin)).with_context(|| format!("start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            log: log.to_owned(),
            child,
            survives: place.survives,
        })
    }

    /// The name that the log file carries too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file with all that the program printed.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// All that the program printed so far; what is not UTF-8 is replaced.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The last `lines` lines of what it printed.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Waits until the log contains `text`; fails at the end of `timeout` or when the program ends before.
    pub fn wait_for_log(&mut self, text: &str, timeout: Duration) -> Result<()> {
        let what = format!("{:?} in the log of {}", text, self.name);
        let mut ended = false;
        wait::wait_until(&what, timeout, || {
            ended = !self.is_running();
            ended || self.log().contains(text)
        })?;
        if ended && !self.log().contains(text) {
            bail!("{} ended before {what}:\n{}", self.name, self.log_tail(30));
        }
        Ok(())
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal to the program alone, not to its children; numbers as in signal(7).
    pub fn signal(&self, signal: i32) -> Result<()> {
        let signal = Signal::from_named_raw(signal).with_context(|| format!("no signal {signal}"))?;
        kill_process(self.id()?, signal).with_context(|| format!("signal {}", self.name))
    }

    /// Waits for the end of the program.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let what = format!("end of {}", self.name);
        wait::wait_for(&what, timeout, || self.child.try_wait().transpose())?.with_context(|| what.clone())
    }

    /// Asks the program to end (SIGTERM) and waits; fails when it is still there after `timeout`.
    pub fn stop(&mut self, timeout: Duration) -> Result<ExitStatus> {
        if self.is_running() {
            self.signal(libc::SIGTERM)?;
        }
        self.wait(timeout)
    }

    /// Kills the program and its process group (SIGKILL) and waits for its end.
    pub fn kill(&mut self) -> Result<()> {
        if self.is_running() {
            kill_process_group(self.id()?, Signal::KILL).with_context(|| format!("kill {}", self.name))?;
        }
        self.child.wait().with_context(|| format!("wait for {}", self.name))?;
        Ok(())
    }

    fn id(&self) -> Result<Pid> {
        i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("process id out of range")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.survives {
            // Nobody is there to hear of a failure, and the lab's cgroup is killed at the end in any case.
            let _killed = self.kill();
        }
    }
}

/// Runs `command` at `place` to its end and returns what it printed.
pub(crate) fn output(command: &mut Command, place: &Place<'_>) -> Result<Output> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = command.get_program().to_string_lossy().into_owned();
    let child = start(command, place).with_context(|| format!("start {program}"))?;
    child.wait_with_output().context("wait for program")
}

/// Starts `command` in a namespace and cgroup, in a process group of its own.
///
/// `command`'s standard input is nothing unless it has been set; see [`start_with_stdin`].
fn start(command: &mut Command, place: &Place<'_>) -> Result<Child> {
    start_with_stdin(command, place, None)
}

/// [`start`] with this descriptor as standard input.
pub(crate) fn start_with_stdin(command: &mut Command, place: &Place<'_>, stdin: Option<OwnedFd>) -> Result<Child> {
    let namespace = place.namespace.as_fd().try_clone_to_owned()?;
    let procs = place.cgroup.join("cgroup.procs");
    let mut procs = File::options()
        .write(true)
        .open(&procs)
        .with_context(|| procs.display().to_string())?;
    let survives = place.survives;
    let parent = Some(getpid());
    command
        .stdin(stdin.map_or_else(Stdio::null, Stdio::from))
        .process_group(0);
    // SAFETY: between fork and exec the closure only makes system calls on descriptors opened before; it takes no lock
    // and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            if !survives {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                if getppid() != parent {
                    // It died before the line above.
                    return Err(io::ErrorKind::Interrupted.into());
                }
            }
            procs.write_all(b"0")?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(())
        });
    }
    // Closures added to a command stay in it, so the command is spent: the caller's becomes an empty one.
    let spent = std::mem::replace(command, Command::new("/nonexistent"));
    spawn_on_lasting_thread(spent)
}

/// Starts a program from a thread that lives as long as this program does: the parent death signal goes out when the
/// *thread* that forked ends, not the process.
fn spawn_on_lasting_thread(command: Command) -> Result<Child> {
    type Request = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, reply) in requests {
                // The asking thread waits for the reply, so sending cannot fail unless it has panicked.
                let _sent = reply.send(command.spawn());
            }
        });
        sender
    });
    let (reply, child) = mpsc::channel();
    spawner
        .send((command, reply))
        .ok()
        .context("the spawning thread is gone")?;
    Ok(child.recv().context("the spawning thread is gone")??)
}
