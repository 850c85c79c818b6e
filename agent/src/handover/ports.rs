//! Making room in a pod's network namespace for the mesh's own ports and connections, and giving it back.
//!
//! | what | why |
//! |---|---|
//! | the mesh's ports are in `net.ipv4.ip_local_reserved_ports` | the kernel gives none of them to a socket of an application: one that is captured would connect to itself, or one of ours could not listen |
//! | the prefix of `sockopt::FORWARDING_PREFIX` is local | the proxy connects to IPv6 applications from there (to IPv4 ones from 127.128.0.0/9), and takes no port of the pod's |
//! | `net.ipv4.tcp_tw_reuse` is 1 where it was 2 | captured connections begin and end at the pod's address. A port that was used is used again once a second has passed, which TCP timestamps make safe (RFC 6191), instead of after a minute. The kernel does that for loopback addresses by itself, and does not know that the pod's own is as local |
//! | `net.ipv4.tcp_no_metrics_save` is 1 where it was 0 | the proxy connects to applications from another address each time, so that what the kernel remembers of an address (round trip, congestion) is looked for in vain, and the next one drives it out: a tenth of the CPU of a connection |
//!
//! A value that somebody chose stays. What was changed is read from the namespace itself when a pod leaves, so that it is
//! also known to an agent that was started since: a port of its own ([`Setting::mark`]) is reserved where a setting was changed.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    ops::RangeInclusive,
    os::fd::OwnedFd,
};

use culvert_abi::{
    CAPTURE_PORT, CAPTURE_PORTS, DNS_PORT, DNS_SLOTS, FORWARDING_PORT, HOLD_PORT, INBOUND_HBONE_PORT,
    INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT,
};
use culvert_net::{interfaces, sockopt::FORWARDING_PREFIX};
use rustix::{
    fs::{Mode, OFlags, openat},
    io::Errno,
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};

/// A setting that is changed where it is as the kernel has it.
struct Setting {
    /// Of the network namespace of whoever opens it.
    path: &'static str,
    from: &'static str,
    to: &'static str,
    /// Reserved where it was changed.
    mark: u16,
    /// What is lost where it cannot be.
    loss: &'static str,
}

const REUSE: Setting = Setting {
    path: "/proc/sys/net/ipv4/tcp_tw_reuse",
    from: "2",
    to: "1",
    mark: 15003,
    loss: "the pod opens fewer connections a second than it could",
};
const UNREMEMBERED: Setting = Setting {
    path: "/proc/sys/net/ipv4/tcp_no_metrics_save",
    from: "0",
    to: "1",
    mark: 15005,
    loss: "connections to the pod cost more CPU than they could",
};
const SETTINGS: [Setting; 2] = [REUSE, UNREMEMBERED];

const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Where proc is mounted in the paths above.
const PROC: &str = "/proc/";

/// Ports that are the mesh's in every enrolled pod.
const OURS: [RangeInclusive<u16>; 6] = [
    OUTBOUND_PORT..=FORWARDING_PORT,
    HOLD_PORT..=HOLD_PORT,
    INBOUND_PLAINTEXT_PORT..=INBOUND_PLAINTEXT_PORT,
    INBOUND_HBONE_PORT..=INBOUND_HBONE_PORT,
    DNS_PORT..=DNS_PORT + DNS_SLOTS - 1,
    CAPTURE_PORT..=CAPTURE_PORT + CAPTURE_PORTS - 1,
];

/// Prepares the network namespace that this thread is in. A second time changes nothing. What fails is left out, and said.
pub(super) fn prepare() {
    let failed = |what: &str, error: &io::Error| tracing::warn!(%error, "{what}");
    let mut marks = Vec::new();
    for setting in &SETTINGS {
        match setting.change() {
            Ok(true) => marks.push(setting.mark),
            Ok(false) => {}
            Err(error) => failed(setting.loss, &error),
        }
    }
    if let Err(error) = reserve(&marks) {
        failed(
            "the kernel may give ports of the mesh to applications of the pod",
            &error,
        );
    }
    match interfaces::make_local(FORWARDING_PREFIX.0, FORWARDING_PREFIX.1) {
        Ok(()) => {}
        // A kernel or a pod without IPv6 needs none.
        Err(error) if has_no_ipv6(&error) => {}
        Err(error) => failed("connections to IPv6 applications of the pod take its ports", &error),
    }
}

/// Whether the mesh's ports are reserved in the network namespace that this thread is in.
pub(crate) fn is_prepared() -> io::Result<bool> {
    let reserved = reserved_ports()?;
    Ok(OURS.into_iter().flatten().all(|port| reserved.contains(&port)))
}

/// Prepares again what something in the pod has undone since. Returns whether there was anything.
///
/// # Errors
/// The settings cannot be read.
pub(crate) fn restore() -> io::Result<bool> {
    let mut is_undone = !is_prepared()?;
    for setting in &SETTINGS {
        is_undone |= setting.read()? == setting.from;
    }
    if is_undone {
        prepare();
    }
    Ok(is_undone)
}

/// Undoes [`prepare`] in the network namespace that this thread is in, but for the local prefix: connections that are open
/// come from there, and live on.
///
/// # Errors
/// A setting that cannot be read or written; the others are undone.
pub(crate) fn give_back() -> io::Result<()> {
    let mut reserved = reserved_ports()?;
    let mut outcome = Ok(());
    let before = reserved.len();
    for setting in &SETTINGS {
        if reserved.remove(&setting.mark) {
            outcome = outcome.and(setting.undo());
        }
    }
    for port in OURS.into_iter().flatten() {
        reserved.remove(&port);
    }
    let ports = if reserved.len() == before {
        Ok(())
    } else {
        write(RESERVED, &format(&reserved))
    };
    outcome.and(ports)
}

fn has_no_ipv6(error: &io::Error) -> bool {
    [libc::EAFNOSUPPORT, libc::EOPNOTSUPP, libc::EACCES, libc::ENODEV].contains(&error.raw_os_error().unwrap_or(0))
}

impl Setting {
    fn read(&self) -> io::Result<String> {
        Ok(fs::read_to_string(self.path)?.trim().to_owned())
    }

    /// Returns whether it was changed.
    fn change(&self) -> io::Result<bool> {
        if self.read()? != self.from {
            return Ok(false);
        }
        write(self.path, self.to)?;
        Ok(true)
    }

    /// One that somebody has changed since stays.
    fn undo(&self) -> io::Result<()> {
        if self.read()? == self.to {
            write(self.path, self.from)?;
        }
        Ok(())
    }
}

fn reserve(marks: &[u16]) -> io::Result<()> {
    let before = reserved_ports()?;
    let mut reserved = before.clone();
    reserved.extend(OURS.into_iter().flatten());
    reserved.extend(marks);
    if reserved == before {
        return Ok(());
    }
    write(RESERVED, &format(&reserved))
}

/// Read at once: whoever comes back for the rest of this file gets nothing.
fn reserved_ports() -> io::Result<BTreeSet<u16>> {
    /// Every other port, with a comma.
    const LONGEST: usize = 6 * 32768;
    let mut text = vec![0; LONGEST];
    let count = File::open(RESERVED)?.read(&mut text)?;
    text.truncate(count);
    Ok(parse(&String::from_utf8_lossy(&text)))
}

/// As the kernel writes it: `8080,9000-9010`.
fn parse(text: &str) -> BTreeSet<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

fn format(ports: &BTreeSet<u16>) -> String {
    let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some(last) if last.end().checked_add(1) == Some(*port) => *last = *last.start()..=*port,
            _ => ranges.push(*port..=*port),
        }
    }
    let ranges = ranges.iter().map(|range| match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    });
    // A line of its own: the kernel takes an empty one for an empty list, but ignores a write of no bytes.
    ranges.collect::<Vec<_>>().join(",") + "\n"
}

fn write(path: &str, value: &str) -> io::Result<()> {
    match fs::write(path, value) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => through_own_proc(path, value),
        outcome => outcome,
    }
}

/// In a container, /proc/sys is there to be read. It is the mount that is so, not the setting, and the agent may mount: so it
/// looks through a proc of its own, which nobody else sees, and which is gone with its descriptor.
fn through_own_proc(path: &str, value: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let setting = openat(own_proc()?, path.trim_start_matches(PROC), flags, Mode::empty())?;
    File::from(setting).write_all(value.as_bytes())
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
    use rustix::thread::{UnshareFlags, unshare_unsafe};

    /// On a thread in a network namespace of its own, with what else it is to have of its own.
    fn inside<T: Send>(flags: UnshareFlags, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = || {
                // SAFETY: a thread of its own; with NEWNS its file system state is no longer shared either.
                unsafe { unshare_unsafe(UnshareFlags::NEWNET | flags) }.expect("needs root");
                let up = std::process::Command::new("ip")
                    .args(["link", "set", "lo", "up"])
                    .status();
                assert!(up.unwrap().success());
                work()
            };
            scope.spawn(inside).join().unwrap()
        })
    }

    /// What [`prepare`] changes: the settings, and whether the prefix is local.
    fn state() -> ([String; 2], String, bool) {
        let settings = SETTINGS.map(|setting| setting.read().unwrap());
        let reserved = format(&reserved_ports().unwrap()).trim().to_owned();
        (settings, reserved, culvert_net::sockopt::has_forwarding_prefix())
    }

    fn settings(values: [&str; 2]) -> [String; 2] {
        values.map(str::to_owned)
    }

    const PREPARED: &str = "15001-15006,15008,15053-15055,15360-16383";

    #[test]
    fn a_pod_gets_back_what_it_had() {
        let machine = state();
        for (chosen, reserved, prepared, changed) in [
            (["2", "0"], "", PREPARED, ["1", "1"]),
            (
                ["2", "0"],
                "8080,15002-15100",
                "8080,15001-15100,15360-16383",
                ["1", "1"],
            ),
            (
                ["1", "0"],
                "",
                "15001-15002,15004-15006,15008,15053-15055,15360-16383",
                ["1", "1"],
            ),
            (
                ["0", "1"],
                "",
                "15001-15002,15004,15006,15008,15053-15055,15360-16383",
                ["0", "1"],
            ),
        ] {
            inside(UnshareFlags::empty(), || {
                for (setting, value) in SETTINGS.iter().zip(chosen) {
                    fs::write(setting.path, value).unwrap();
                }
                fs::write(RESERVED, reserved).unwrap();
                let before = state();
                assert!(!is_prepared().unwrap());
                for _ in 0..2 {
                    prepare();
                    assert_eq!(state(), (settings(changed), prepared.to_owned(), true));
                    assert!(is_prepared().unwrap());
                }
                for _ in 0..2 {
                    give_back().unwrap();
                    let (left, kept, _) = state();
                    assert_eq!(left, before.0);
                    // Whether a port of ours was also somebody else's is not remembered.
                    assert_eq!(
                        kept,
                        if reserved.is_empty() {
                            ""
                        } else {
                            "8080,15007,15009-15052,15056-15100"
                        }
                    );
                }
            });
        }
        assert_eq!(state(), machine, "only the pod's namespace may be told");
    }

    #[test]
    fn a_pod_without_ipv6_is_prepared() {
        inside(UnshareFlags::empty(), || {
            fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
            prepare();
            assert_eq!(state(), (settings(["1", "1"]), PREPARED.to_owned(), false));
            give_back().unwrap();
        });
    }

    /// As container runtimes arrange it.
    #[test]
    fn a_read_only_proc_does_not_hinder_it() {
        use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change, mount_remount};

        inside(UnshareFlags::NEWNS, || {
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            mount_bind("/proc/sys", "/proc/sys").unwrap();
            mount_remount("/proc/sys", MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
            fs::write(REUSE.path, REUSE.from).expect_err("it is read-only");
            prepare();
            assert_eq!(state(), (settings(["1", "1"]), PREPARED.to_owned(), true));
            give_back().unwrap();
            assert_eq!(state(), (settings(["2", "0"]), String::new(), true));
        });
    }
}
