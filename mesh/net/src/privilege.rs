//! Giving privileges up for good, before the first byte of a stranger is read.
//!
//! What is left afterwards: the descriptors that are open, memory, and system calls on sockets that others made. No
//! capability in any set, no way to gain one (`no_new_privs`), no user id of weight, and a seccomp filter over the calls
//! that a network proxy never needs but an intruder would like.

use std::{collections::BTreeMap, io};

use rustix::{
    process::{DumpableBehavior, Gid, Resource, Rlimit, Uid, getrlimit, set_dumpable_behavior, setrlimit},
    thread::{CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities, set_no_new_privs},
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// Why a program cannot be trusted with traffic.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// A step failed.
    #[error("cannot {what}")]
    System {
        /// The step.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// There is no filter.
    #[error("cannot build or install the seccomp filter: {0}")]
    Seccomp(String),
    /// It had no effect.
    #[error("privileges are left after giving them up: {0}")]
    Left(String),
    /// There is another thread.
    #[error("there are {0} threads, and giving privileges up is for one")]
    Threads(usize),
}

/// What the kernel says of this process after [`drop_all`].
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Bits of all five capability sets together.
    pub capabilities: u64,
    /// Whether nothing that is started from here can gain any.
    pub no_new_privs: bool,
    /// 2 is a filter.
    pub seccomp: u32,
}

/// Calls that answer EPERM from now on. A list of what is forbidden rather than of what is allowed: a C library that
/// learns a new call must not kill a node's traffic, and with no capability these are the doors that remain.
const FORBIDDEN: &[libc::c_long] = &[
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_userfaultfd,
    libc::SYS_open_by_handle_at,
    libc::SYS_io_uring_setup,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_personality,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
];

/// New namespaces: in a user namespace of its own, a process has every capability again, `no_new_privs` or not.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// Gives everything up; call while the process has one thread, so that every later thread inherits it. Capabilities,
/// `no_new_privs`, the filter and, with these calls, the user belong to a thread, not to the process.
///
/// `user` is taken as user and group id when the process runs as root; none leaves it who it is.
///
/// # Errors
/// When there is another thread, a step fails, or `/proc/self/status` afterwards says that it had no effect.
pub fn drop_all(user: Option<u32>) -> Result<Held, PrivilegeError> {
    let threads = std::fs::read_dir("/proc/self/task")
        .map_err(system("read /proc/self/task"))?
        .count();
    if threads != 1 {
        return Err(PrivilegeError::Threads(threads));
    }
    close_inherited()?;
    raise_descriptor_limit()?;
    drop_bounding_set()?;
    if let Some(user) = user.filter(|_| rustix::process::geteuid().is_root()) {
        become_user(user)?;
    }
    clear_capabilities()?;
    set_no_new_privs(true).map_err(|error| system("set no_new_privs")(error.into()))?;
    // A change of user does this already; where there was none, others of the same user must not look inside either.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| system("forbid others to look inside")(error.into()))?;
    install_filter()?;
    let held = held()?;
    if held.capabilities != 0 || !held.no_new_privs || held.seccomp != 2 {
        return Err(PrivilegeError::Left(format!("{held:?}")));
    }
    Ok(held)
}

/// Closes what came along with standard input, output and error: whoever started the monitor may have left descriptors
/// open for its children, and they keep the rights with which they were opened.
fn close_inherited() -> Result<(), PrivilegeError> {
    let first = libc::STDERR_FILENO + 1;
    // SAFETY: takes three integers. This process has opened nothing yet, so nobody's descriptor is closed under them.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_int::MAX, 0) };
    match closed {
        0 => Ok(()),
        _ => Err(system("close inherited descriptors")(io::Error::last_os_error())),
    }
}

/// Raises the soft limit of open descriptors to the hard one: each connection takes two in a proxy, each pod some in ztunnel's
/// monitor, and the soft limit is often 1024.
///
/// # Errors
/// When the kernel refuses.
pub fn raise_descriptor_limit() -> Result<(), PrivilegeError> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
    .map_err(|error| system("raise the descriptor limit")(error.into()))
}

/// Removes every capability from the bounding set, where that is allowed: it takes `CAP_SETPCAP`, without which there
/// is nothing that a later program could gain either, since `no_new_privs` holds.
fn drop_bounding_set() -> Result<(), PrivilegeError> {
    for capability in CapabilitySet::all() {
        match remove_capability_from_bounding_set(capability) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
            Err(error) => return Err(system("drop the bounding set")(error.into())),
        }
    }
    Ok(())
}

fn become_user(user: u32) -> Result<(), PrivilegeError> {
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    rustix::thread::set_thread_groups(&[]).map_err(|error| system("leave supplementary groups")(error.into()))?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(|error| system("change group")(error.into()))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(|error| system("change user")(error.into()))
}

/// Empties the effective, permitted and inheritable sets; the ambient one follows, being a part of permitted.
fn clear_capabilities() -> Result<(), PrivilegeError> {
    let none = CapabilitySet::empty();
    set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )
    .map_err(|error| system("clear capabilities")(error.into()))
}

fn install_filter() -> Result<(), PrivilegeError> {
    let mut rules: BTreeMap<i64, Vec<_>> = FORBIDDEN.iter().map(|call| (*call, vec![])).collect();
    let namespace = |flag: libc::c_int| {
        let flag = flag as u64;
        let set = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(flag), flag);
        SeccompRule::new(vec![set.map_err(|error| seccomp(&error))?]).map_err(|error| seccomp(&error))
    };
    let namespaces = NAMESPACES.into_iter().map(namespace);
    rules.insert(libc::SYS_clone, namespaces.collect::<Result<_, _>>()?);
    apply(rules, libc::EPERM)?;
    // Its flags are in memory, where no filter can look. C libraries take this answer for an old kernel's and use `clone`.
    apply(BTreeMap::from([(libc::SYS_clone3, vec![])]), libc::ENOSYS)
}

fn apply(rules: BTreeMap<i64, Vec<SeccompRule>>, answer: libc::c_int) -> Result<(), PrivilegeError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| seccomp(&error))?;
    let denied = SeccompAction::Errno(answer as u32);
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, denied, architecture).map_err(|error| seccomp(&error))?;
    let program = BpfProgram::try_from(filter).map_err(|error| seccomp(&error))?;
    seccompiler::apply_filter(&program).map_err(|error| seccomp(&error))
}

fn seccomp(error: &dyn std::fmt::Display) -> PrivilegeError {
    PrivilegeError::Seccomp(error.to_string())
}

fn held() -> Result<Held, PrivilegeError> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(system("read /proc/self/status"))?;
    Ok(parse_status(&status))
}

fn parse_status(status: &str) -> Held {
    let mut held = Held {
        capabilities: 0,
        no_new_privs: false,
        seccomp: 0,
    };
    for line in status.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        match key {
            // CapBnd stays where CAP_SETPCAP was missing; with no_new_privs it gives nothing.
            "CapInh" | "CapPrm" | "CapEff" | "CapAmb" => {
                held.capabilities |= u64::from_str_radix(value, 16).unwrap_or(u64::MAX);
            }
            "NoNewPrivs" => held.no_new_privs = value == "1",
            "Seccomp" => held.seccomp = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    held
}

fn system(what: &'static str) -> impl Fn(io::Error) -> PrivilegeError {
    move |source| PrivilegeError::System { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_gave_everything_up_holds_nothing_and_cannot_enter_a_namespace() {
        // All that is given up belongs to the thread, so a thread of its own leaves the other tests alone.
        let checked = std::thread::spawn(|| {
            let namespace = std::fs::File::open("/proc/self/ns/net").unwrap();
            drop_bounding_set().unwrap();
            if rustix::process::geteuid().is_root() {
                become_user(65534).unwrap();
            }
            clear_capabilities().unwrap();
            set_no_new_privs(true).unwrap();
            install_filter().unwrap();
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let entered = rustix::thread::move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&namespace),
                Some(rustix::thread::LinkNameSpaceType::Network),
            );
            let new_user = |call, first: libc::c_long, second: libc::c_long| {
                // SAFETY: should a child be made after all, it shares nothing and ends at once.
                let child = unsafe { libc::syscall(call, first, second, 0, 0, 0) };
                if child == 0 {
                    // SAFETY: ends this process alone.
                    unsafe { libc::_exit(0) }
                }
                std::io::Error::last_os_error().raw_os_error().filter(|_| child < 0)
            };
            let cloned = new_user(
                libc::SYS_clone,
                libc::c_long::from(libc::CLONE_NEWUSER | libc::SIGCHLD),
                0,
            );
            let cloned3 = new_user(libc::SYS_clone3, 0, 0);
            // Threads must still be had.
            std::thread::spawn(|| ()).join().unwrap();
            (parse_status(&status), entered, [cloned, cloned3])
        });
        let (held, entered, cloned) = checked.join().unwrap();
        assert_eq!(
            cloned,
            [Some(libc::EPERM), Some(libc::ENOSYS)],
            "a user namespace must be refused"
        );
        assert_eq!(
            (held.capabilities, held.no_new_privs, held.seccomp),
            (0, true, 2),
            "{held:?}"
        );
        assert_eq!(entered, Err(rustix::io::Errno::PERM), "setns must be refused");
    }

    #[test]
    fn a_status_that_cannot_be_read_counts_as_privileged() {
        assert_ne!(parse_status("CapEff:\tnonsense\n").capabilities, 0);
    }
}
