//! Becoming a process of the cluster.

use crate::{Error, cgroup, error::Doing};
use culvert_net::Netns;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    convert::Infallible,
    ffi::OsString,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::Path,
    process::Command,
};

/// Moves into a group and a network namespace, leaves the caller's terminal, and becomes `program`.
///
/// The process keeps its id, so that whoever started it knows it already.
///
/// # Errors
/// One of these steps failed; the program was not started.
pub fn run(group: &str, netns: &Path, program: &[OsString]) -> Result<Infallible, Error> {
    cgroup::join(group)?;
    move_into_link_name_space(Netns::open(netns)?.as_fd(), Some(LinkNameSpaceType::Network))
        .doing(|| format!("enter {}", netns.display()))?;
    // It fails only for a process that leads a group already, and is then as free as can be.
    let _ = rustix::process::setsid();
    let (name, arguments) = program.split_first().ok_or_else(|| Error::Missing {
        path: "program".into(),
        remedy: "name it after --",
    })?;
    let error = Command::new(name).args(arguments).exec();
    Err(error).doing(|| format!("start {}", name.display()))
}
