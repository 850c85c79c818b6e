//! Running a program inside a node.

use crate::{Error, cgroup, component::INIT_RECORD, error::Doing, inside::init, node::Plan, record};
use rustix::{
    process::{Pid, Signal, kill_process, set_parent_process_death_signal},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use signal_hook::{
    consts::{SIGCHLD, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    ffi::OsString,
    fs::{self, File},
    os::{
        fd::AsFd as _,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::Path,
    process::Command,
};

/// Runs `program` in all of a node's namespaces and in its control groups; its exit code, or 128 and the signal.
///
/// SIGTERM and SIGINT are passed on; if this process is killed the program is too.
///
/// # Errors
/// The node is not up, or the program could not be started.
pub fn enter(folder: &Path, program: &[OsString]) -> Result<u8, Error> {
    let plan: Plan = record::read(&Plan::file(folder))?;
    let file = plan.path(INIT_RECORD);
    let first = fs::read_to_string(&file).doing(|| format!("read {}: is {} up?", file.display(), plan.name()))?;
    // Opened before the first of them is entered, because the process has another id inside.
    let mut namespaces = Vec::new();
    for (name, kind) in [
        ("cgroup", LinkNameSpaceType::ControlGroup),
        ("ipc", LinkNameSpaceType::InterProcessCommunication),
        ("uts", LinkNameSpaceType::HostNameAndNISDomainName),
        ("net", LinkNameSpaceType::Network),
        ("pid", LinkNameSpaceType::ProcessID),
        ("mnt", LinkNameSpaceType::Mount),
    ] {
        let path = format!("/proc/{}/ns/{name}", first.trim());
        let file = File::open(&path).doing(|| format!("open {path}: is {} up?", plan.name()))?;
        namespaces.push((file, kind, path));
    }
    cgroup::join(&format!("{}/{}", plan.group, init::GROUP))?;
    for (file, kind, path) in &namespaces {
        move_into_link_name_space(file.as_fd(), Some(*kind)).doing(|| format!("enter {path}"))?;
    }
    follow(program)
}

fn follow(program: &[OsString]) -> Result<u8, Error> {
    let (name, arguments) = program.split_first().ok_or_else(|| Error::Missing {
        path: "program".into(),
        remedy: "name it after --",
    })?;
    let mut command = Command::new(name);
    command.args(arguments);
    // SAFETY: between fork and exec this makes a single system call, and allocates nothing.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    let mut signals = Signals::new([SIGCHLD, SIGINT, SIGTERM]).doing(|| "handle signals".into())?;
    let mut child = command.spawn().doing(|| format!("start {}", name.display()))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    for signal in signals.forever() {
        if signal == SIGCHLD {
            if let Some(status) = child.try_wait().doing(|| "wait for the program".into())? {
                let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
                return Ok(u8::try_from(code.unwrap_or(1)).unwrap_or(1));
            }
        } else if let (Some(pid), Some(signal)) = (pid, Signal::from_named_raw(signal)) {
            let _ = kill_process(pid, signal);
        }
    }
    Ok(1)
}
