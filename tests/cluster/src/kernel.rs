//! Kernel programs that are attached to a node's control groups.

use culvert_cluster::Node;
use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

/// The kernel's `BPF_PROG_QUERY`.
const QUERY: libc::c_long = 16;
/// Container runtimes attach programs of this type themselves, to limit devices.
const DEVICE: u32 = 6;
/// Types of attachment have numbers below this.
const TYPES: u32 = 60;

/// What `BPF_PROG_QUERY` reads and writes.
#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
    rest: [u64; 12],
}

/// The control groups of a node that have programs attached, without those that limit devices, with how many.
pub fn attached_programs(node: &Node) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    let mut left = vec![unified().join(node.group())];
    while let Some(group) = left.pop() {
        let count = (0..TYPES)
            .filter(|kind| *kind != DEVICE)
            .map(|kind| query(&group, kind))
            .sum();
        if count > 0 {
            found.push((group.clone(), count));
        }
        // One that goes away meanwhile has nothing attached.
        let entries = fs::read_dir(&group).into_iter().flatten().flatten();
        left.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
    }
    found
}

/// How many programs of a type are attached to a control group itself.
fn query(group: &Path, kind: u32) -> u32 {
    let Ok(folder) = File::open(group) else {
        return 0;
    };
    let mut ids = [0_u32; 64];
    let mut query = Query {
        target: u32::try_from(folder.as_raw_fd()).unwrap(),
        kind,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        ..Query::default()
    };
    // SAFETY: the kernel writes into `query` and into as many elements of `ids` as `count` says; both live longer than the call.
    let outcome = unsafe { libc::syscall(libc::SYS_bpf, QUERY, &raw mut query, size_of::<Query>()) };
    match outcome {
        0 => query.count,
        _ => match io::Error::last_os_error() {
            // Not a type that control groups know; one that went away since it was opened.
            error if [libc::EINVAL, libc::ENOENT].map(Some).contains(&error.raw_os_error()) => 0,
            error => panic!("{}: type {kind}: {error}", group.display()),
        },
    }
}

/// Where the machine has cgroup2.
fn unified() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).unwrap();
    mount.split(' ').nth(4).unwrap().into()
}
