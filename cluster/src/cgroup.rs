//! The machine's control groups: every process of a cluster is in a group named for it, `cv-<cluster>-cp` or
//! `cv-<cluster>-n<number>`, in every hierarchy that is mounted.
//!
//! So nothing gets lost: whatever was killed half way, the groups say which processes belong to a cluster.

use crate::{Error, error::Doing, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Where it is mounted.
    pub(crate) root: PathBuf,
    /// cgroup2, rather than version 1.
    pub(crate) unified: bool,
    /// Mount options that select a version 1 hierarchy, for example `cpuset` or `none,name=systemd`.
    pub(crate) selection: String,
}

/// Every hierarchy of the calling process's mount namespace.
pub(crate) fn hierarchies() -> Result<Vec<Hierarchy>, Error> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").doing(|| "read /proc/self/mountinfo".into())?;
    Ok(parse(&mounts))
}

fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let (Some(root), Some(point)) = (left.split(' ').nth(3), left.split(' ').nth(4)) else {
            continue;
        };
        let mut words = right.split(' ');
        let kind = words.next().unwrap_or_default();
        if !matches!(kind, "cgroup" | "cgroup2") || !is_whole(root) {
            continue;
        }
        let hierarchy = Hierarchy {
            root: point.into(),
            unified: kind == "cgroup2",
            selection: selection(words.nth(1).unwrap_or_default()),
        };
        // The same hierarchy may be mounted twice.
        if !found
            .iter()
            .any(|other| (other.unified, &other.selection) == (hierarchy.unified, &hierarchy.selection))
        {
            found.push(hierarchy);
        }
    }
    found
}

/// Whether a mount shows its hierarchy's root: in a fresh control group namespace the machine's own mounts say `/..`.
fn is_whole(root: &str) -> bool {
    root == "/" || root.split('/').skip(1).all(|part| part == "..")
}

/// Of a mount's options those that choose the hierarchy.
fn selection(options: &str) -> String {
    let chosen: Vec<&str> = options
        .split(',')
        .filter(|option| {
            !matches!(
                *option,
                "rw" | "ro" | "nsdelegate" | "memory_recursiveprot" | "favordynmods" | "xattr" | "clone_children"
            )
        })
        .filter(|option| !option.starts_with("release_agent="))
        .collect();
    if chosen.iter().any(|option| option.starts_with("name=")) {
        return format!("none,{}", chosen.join(","));
    }
    chosen.join(",")
}

/// Makes a group in every hierarchy.
pub(crate) fn create(group: &str) -> Result<(), Error> {
    for hierarchy in hierarchies()? {
        create_in(&hierarchy.root, group)?;
    }
    Ok(())
}

/// Makes the group `group` below `parent`, usable at once.
pub(crate) fn create_in(parent: &Path, group: &str) -> Result<(), Error> {
    let path = parent.join(group);
    fs::create_dir_all(&path).doing(|| format!("make the control group {}", path.display()))?;
    // A version 1 cpuset takes no process before it has processors and memory.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (parent.join(file), path.join(file));
        if from.is_file() && to.is_file() {
            let value = fs::read(&from).doing(|| format!("read {}", from.display()))?;
            fs::write(&to, value).doing(|| format!("write {}", to.display()))?;
        }
    }
    Ok(())
}

/// Moves the calling process into a group of every hierarchy.
pub(crate) fn join(group: &str) -> Result<(), Error> {
    for hierarchy in hierarchies()? {
        let file = hierarchy.root.join(group).join("cgroup.procs");
        fs::write(&file, "0").doing(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

/// Every process in the groups, and in those below them, in any hierarchy.
pub(crate) fn processes(groups: &[String]) -> Result<BTreeSet<i32>, Error> {
    let mut found = BTreeSet::new();
    for hierarchy in hierarchies()? {
        for group in groups {
            collect(&hierarchy.root.join(group), &mut found);
        }
    }
    Ok(found)
}

fn collect(folder: &Path, found: &mut BTreeSet<i32>) {
    let Ok(processes) = fs::read_to_string(folder.join("cgroup.procs")) else {
        return; // gone meanwhile
    };
    found.extend(
        processes
            .lines()
            .filter_map(|line| line.parse::<i32>().ok())
            .filter(|pid| *pid > 0),
    );
    for child in children(folder) {
        collect(&child, found);
    }
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// The groups at the top of any hierarchy whose names begin with `prefix`.
pub(crate) fn with_prefix(prefix: &str) -> Result<Vec<String>, Error> {
    let mut found = BTreeSet::new();
    for hierarchy in hierarchies()? {
        for folder in children(&hierarchy.root) {
            let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
            found.extend(name.filter(|name| name.starts_with(prefix)));
        }
    }
    Ok(found.into_iter().collect())
}

/// Kills every process of the groups, and returns when there is none.
pub(crate) fn kill(groups: &[String]) -> Result<(), Error> {
    wait::wait_for("end of the cluster's processes", Duration::from_secs(20), || {
        let left = processes(groups)?;
        for pid in left.iter().filter_map(|pid| Pid::from_raw(*pid)) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
        Ok(left.is_empty().then_some(()))
    })
}

/// Removes empty groups, with all below them.
pub(crate) fn remove(groups: &[String]) -> Result<(), Error> {
    let folders: Vec<PathBuf> = hierarchies()?
        .iter()
        .flat_map(|hierarchy| groups.iter().map(|group| hierarchy.root.join(group)))
        .collect();
    let mut last = None;
    let removed = wait::wait_until("removal of the control groups", Duration::from_secs(10), || {
        folders.iter().all(|folder| match remove_tree(folder) {
            Ok(()) => true,
            Err(error) => {
                last = Some(format!(": {}: {error}", folder.display()));
                false
            }
        })
    });
    removed.map_err(|error| match (error, last) {
        (Error::Timeout { what, after, .. }, Some(detail)) => Error::Timeout { what, after, detail },
        (error, _) => error,
    })
}

fn remove_tree(folder: &Path) -> io::Result<()> {
    for child in children(folder) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found_once_each() {
        let found = parse(
            "40 32 0:30 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n\
             41 32 0:31 / /sys/fs/cgroup/systemd rw shared:3 - cgroup cgroup rw,xattr,name=systemd\n\
             42 32 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n\
             43 32 0:32 / /mnt/again rw - cgroup2 cgroup2 rw\n\
             43 32 0:35 /../.. /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
             44 32 0:33 /part /mnt/part rw - cgroup cgroup rw,cpu\n\
             45 32 0:34 / /proc rw - proc proc rw\n",
        );
        let seen: Vec<(&str, bool, &str)> = found
            .iter()
            .map(|hierarchy| {
                (
                    hierarchy.root.to_str().unwrap(),
                    hierarchy.unified,
                    hierarchy.selection.as_str(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("/sys/fs/cgroup/cpuset", false, "cpuset"),
                ("/sys/fs/cgroup/systemd", false, "none,name=systemd"),
                ("/sys/fs/cgroup/unified", true, ""),
                ("/sys/fs/cgroup/pids", false, "pids"),
            ]
        );
    }
}
