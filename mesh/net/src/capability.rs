//! What a program may not do without, looked at before it begins: a missing capability would otherwise show late, and as
//! `Operation not permitted` of something that does not say its name.

use rustix::thread::{CapabilitySet, capabilities};
use std::{fmt, io};

/// A capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    name: &'static str,
    bit: CapabilitySet,
}

impl Capability {
    /// Entering namespaces; loading kernel programs.
    pub const SYS_ADMIN: Self = Self::new("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN);
    /// Changing the network.
    pub const NET_ADMIN: Self = Self::new("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN);
    /// Looking into other processes.
    pub const SYS_PTRACE: Self = Self::new("CAP_SYS_PTRACE", CapabilitySet::SYS_PTRACE);
    /// Becoming another user.
    pub const SETUID: Self = Self::new("CAP_SETUID", CapabilitySet::SETUID);
    /// Becoming another group, and leaving groups.
    pub const SETGID: Self = Self::new("CAP_SETGID", CapabilitySet::SETGID);
    /// Ending other users' processes.
    pub const KILL: Self = Self::new("CAP_KILL", CapabilitySet::KILL);

    const fn new(name: &'static str, bit: CapabilitySet) -> Self {
        Self { name, bit }
    }
}

/// Why a program cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    /// It lacks what it needs.
    #[error("{0}")]
    Missing(Missing),
    /// The kernel does not say.
    #[error("cannot learn which capabilities this process has")]
    Unknown(#[source] io::Error),
}

/// Capabilities that are not there, each with what it is needed for.
#[derive(Debug)]
pub struct Missing(Vec<(Capability, &'static str)>);

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("this process lacks ")?;
        for (number, (capability, purpose)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", and " };
            write!(out, "{comma}{}, without which it cannot {purpose}", capability.name)?;
        }
        Ok(())
    }
}

/// Makes sure that this thread has these capabilities; beside each, what the program cannot do without it.
///
/// # Errors
/// One of them is missing.
pub fn require(needed: &[(Capability, &'static str)]) -> Result<(), CapabilityError> {
    let held = capabilities(None).map_err(|error| CapabilityError::Unknown(error.into()))?;
    let missing = needed.iter().filter(|(one, _)| !held.effective.contains(one.bit));
    let missing: Vec<_> = missing.copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(CapabilityError::Missing(Missing(missing)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::{Capability, require};
    use crate::Netns;
    use rustix::{
        process::{Pid, Uid, test_kill_process},
        thread::{capabilities, set_capabilities, set_thread_groups, set_thread_res_uid},
    };
    use std::{fs::File, io, os::unix::process::CommandExt, process::Command};

    const NOBODY: u32 = 65534;

    /// What `action` says with every capability, and in a thread that lacks this one. Needs root.
    fn with_and_without<T: Send>(
        capability: Capability,
        action: impl Fn() -> io::Result<T> + Sync,
    ) -> [io::Result<T>; 2] {
        std::thread::scope(|scope| {
            let with = scope.spawn(&action).join().unwrap();
            let without = scope.spawn(|| {
                let mut sets = capabilities(None).unwrap();
                sets.effective.remove(capability.bit);
                set_capabilities(None, sets).unwrap();
                let missing = require(&[(capability, "do it")]).unwrap_err().to_string();
                assert!(missing.contains(&format!("{}, without which it cannot do it", capability.name)));
                action()
            });
            [with, without.join().unwrap()]
        })
    }

    fn is_needed<T: Send>(capability: Capability, action: impl Fn() -> io::Result<T> + Sync) {
        let [with, without] = with_and_without(capability, action);
        assert!(with.is_ok(), "{}: {:?}", capability.name, with.err());
        let refused = without.err().map(|error| error.kind());
        assert_eq!(refused, Some(io::ErrorKind::PermissionDenied), "{}", capability.name);
    }

    /// The kernel asks for each of them: a program that demands one at its start demands nothing spare.
    #[test]
    fn the_kernel_asks_for_each_of_them() {
        let mut child = Command::new("sleep").arg("60").uid(NOBODY).gid(NOBODY).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let here = Netns::current().unwrap();
        is_needed(Capability::SYS_ADMIN, || match here.run(|| ()) {
            Ok(()) => Ok(()),
            Err(crate::NetError::Enter(error)) => Err(error),
            Err(error) => panic!("{error}"),
        });
        is_needed(Capability::SYS_PTRACE, || {
            File::open(format!("/proc/{}/ns/net", child.id()))
        });
        is_needed(Capability::KILL, || Ok(test_kill_process(pid)?));
        is_needed(Capability::SETGID, || Ok(set_thread_groups(&[])?));
        is_needed(Capability::SETUID, || {
            let nobody = Uid::from_raw(NOBODY);
            Ok(set_thread_res_uid(nobody, nobody, nobody)?)
        });
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn all_that_is_missing_is_named() {
        let missing = super::Missing(vec![(Capability::KILL, "end it"), (Capability::SETUID, "change")]);
        assert_eq!(
            missing.to_string(),
            "this process lacks CAP_KILL, without which it cannot end it, and CAP_SETUID, without which it cannot change"
        );
    }
}
