//! Ports for the connections that the proxy makes inside a pod, to the pod's own applications.
//!
//! They all begin and end at the pod's address, so one application port has about 28,000 of them, and one that the proxy
//! closed first is held back for a minute (`TIME_WAIT`): some 470 new connections a second would be the most that a pod
//! could serve. The kernel lifts that for loopback addresses by itself (`tcp_tw_reuse` is 2); the pod's own address is as
//! local, but is not recognised as such, so the pod's namespace is told. A port is then used again once a second has
//! passed, which TCP timestamps make safe (RFC 6191). A value that somebody chose stays.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::fd::OwnedFd,
};

use rustix::{
    fs::{Mode, OFlags, openat},
    io::Errno,
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};

/// Of the network namespace of whoever opens it.
const REUSE: &str = "/proc/sys/net/ipv4/tcp_tw_reuse";

/// Where proc is mounted in the path above.
const PROC: &str = "/proc/";

const LOOPBACK_ONLY: &str = "2";
const ALWAYS: &str = "1";

/// Lets the network namespace that this thread is in use ports again. Returns whether something changed.
pub(crate) fn allow_reuse() -> io::Result<bool> {
    if fs::read_to_string(REUSE)?.trim() != LOOPBACK_ONLY {
        return Ok(false);
    }
    match fs::write(REUSE, ALWAYS) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => through_own_proc()?,
        outcome => outcome?,
    }
    Ok(true)
}

/// In a container, /proc/sys is there to be read. It is the mount that is so, not the setting, and the agent may mount: so it
/// looks through a proc of its own, which nobody else sees, and which is gone with its descriptor.
fn through_own_proc() -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let reuse = openat(own_proc()?, REUSE.trim_start_matches(PROC), flags, Mode::empty())?;
    File::from(reuse).write_all(ALWAYS.as_bytes())
}

fn own_proc() -> Result<OwnedFd, Errno> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let harmless =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, harmless)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_ports_may_be_used_again_and_the_machines_setting_stays() {
        let before = fs::read_to_string(REUSE).unwrap();
        let inside = || {
            // SAFETY: only this thread's network namespace changes; it shares no other state that unshare would touch.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("needs root");
            let begun = fs::read_to_string(REUSE).unwrap();
            let changed = allow_reuse().unwrap();
            assert!(!allow_reuse().unwrap(), "what has been said need not be said again");
            (begun, changed, fs::read_to_string(REUSE).unwrap())
        };
        let (begun, changed, after) = std::thread::scope(|scope| scope.spawn(inside).join().unwrap());
        assert_eq!(
            (changed, after.trim()),
            (
                begun.trim() == LOOPBACK_ONLY,
                if changed { ALWAYS } else { begun.trim() }
            )
        );
        assert_eq!(
            fs::read_to_string(REUSE).unwrap(),
            before,
            "only the pod's namespace may be told"
        );
    }

    /// As container runtimes arrange it.
    #[test]
    fn a_read_only_proc_does_not_hinder_it() {
        use rustix::{
            mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change, mount_remount},
            thread::{UnshareFlags, unshare_unsafe},
        };

        let inside = || {
            // SAFETY: a thread of its own; with NEWNS its file system state is no longer shared either.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }.expect("needs root");
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            mount_bind("/proc/sys", "/proc/sys").unwrap();
            mount_remount("/proc/sys", MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
            fs::write(REUSE, LOOPBACK_ONLY).expect_err("it is read-only");
            let begun = fs::read_to_string(REUSE).unwrap();
            (begun, allow_reuse().unwrap(), fs::read_to_string(REUSE).unwrap())
        };
        let (begun, changed, after) = std::thread::scope(|scope| scope.spawn(inside).join().unwrap());
        assert_eq!(begun.trim(), LOOPBACK_ONLY, "a new namespace has the kernel's default");
        assert!(changed);
        assert_eq!(after.trim(), ALWAYS);
    }
}
