//! A node's view of the file system: the machine's root, with what belongs to a node alone mounted over it.

use crate::{Error, cgroup, error::Doing, machine, node::Plan};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount};
use std::{ffi::CString, fs, path::Path};

/// These the kubelet writes, and they belong to the whole machine: it finds the values that it wants already, in files
/// that are mounted over them, and the machine keeps its own.
const WANTED_BY_KUBELET: [(&str, &str); 6] = [
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Mounts everything; called once, by process 1 in its fresh mount namespace.
pub(crate) fn make(plan: &Plan) -> Result<(), Error> {
    let propagation = |flags: MountPropagationFlags| {
        mount_change("/", MountPropagationFlags::REC | flags).doing(|| "set the propagation of mounts".into())
    };
    propagation(MountPropagationFlags::PRIVATE)?;
    // Looked at before the machine's own are out of sight.
    let hierarchies = cgroup::hierarchies()?;
    detach_below("/sys")?;
    detach_below("/run")?;
    fresh("sysfs", "/sys", "")?;
    fresh("proc", "/proc", "")?;
    sysctls(plan)?;
    control_groups(&hierarchies)?;
    fresh("bpf", "/sys/fs/bpf", "")?;
    fresh("tmpfs", "/run", "mode=755")?;
    for target in machine::MOUNT_POINTS.into_iter().chain(["/var/log"]) {
        let own = plan.own(target);
        fs::create_dir_all(&own).doing(|| format!("make {}", own.display()))?;
        bind(&own, target)?;
    }
    // A mount that a privileged pod makes must show in the node, and the other way round.
    propagation(MountPropagationFlags::SHARED)
}

fn sysctls(plan: &Plan) -> Result<(), Error> {
    let folder = plan.path("sysctl");
    fs::create_dir_all(&folder).doing(|| format!("make {}", folder.display()))?;
    for (name, value) in WANTED_BY_KUBELET {
        let file = folder.join(name.replace('/', "."));
        fs::write(&file, value).doing(|| format!("write {}", file.display()))?;
        bind(&file, &format!("/proc/sys/{name}"))?;
    }
    Ok(())
}

/// Mounts the machine's hierarchies at their places; in this control group namespace each shows the node's own root.
fn control_groups(hierarchies: &[cgroup::Hierarchy]) -> Result<(), Error> {
    const ROOT: &str = "/sys/fs/cgroup";
    if hierarchies.iter().any(|hierarchy| hierarchy.root != Path::new(ROOT)) {
        fresh("tmpfs", ROOT, "mode=755")?;
    }
    for hierarchy in hierarchies {
        let root = hierarchy.root.to_string_lossy();
        fs::create_dir_all(&hierarchy.root).doing(|| format!("make {root}"))?;
        let kind = if hierarchy.unified { "cgroup2" } else { "cgroup" };
        fresh(kind, &root, &hierarchy.selection)?;
    }
    Ok(())
}

fn fresh(kind: &str, target: &str, options: &str) -> Result<(), Error> {
    let options = CString::new(options).unwrap_or_default();
    mount(kind, target, kind, MountFlags::empty(), options.as_c_str()).doing(|| format!("mount {kind} at {target}"))
}

fn bind(source: &Path, target: &str) -> Result<(), Error> {
    mount_bind(source, target).doing(|| format!("mount {} at {target}", source.display()))
}

/// Detaches `root` and all that is mounted below it: a mount that is only covered would still be in the list of mounts,
/// and would keep what it shows, for example another cluster's network namespace.
fn detach_below(root: &str) -> Result<(), Error> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").doing(|| "read /proc/self/mountinfo".into())?;
    let below = format!("{root}/");
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    for point in points
        .filter(|point| *point == root || point.starts_with(&below))
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        // The mount above it may have taken it along.
        let _ = unmount(point, UnmountFlags::DETACH);
    }
    Ok(())
}
