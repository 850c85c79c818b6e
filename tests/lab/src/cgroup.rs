//! cgroup2 folders, which tell one node's pods from another's and the proxies from the pods.

use crate::wait;
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// Where cgroup version 2 is mounted, alone or beside version 1.
pub(crate) fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read mount table")?;
    find_cgroup2(&mounts).context("cgroup version 2 is not mounted (it usually is at /sys/fs/cgroup)")
}

/// The first whole cgroup2 file system in a mount table in the format of proc_pid_mountinfo(5).
fn find_cgroup2(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (place.next()?, place.next()?);
        (kind.starts_with("cgroup2 ") && root == "/").then(|| PathBuf::from(point))
    })
}

/// Makes the folder and those above it.
pub(crate) fn create(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("make cgroup {}", path.display()))
}

/// Kills every process in this folder and below, then removes the folders.
pub(crate) fn remove(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    kill(path);
    let mut last = Ok(());
    let gone = wait::wait_until("cgroup is empty", Duration::from_secs(10), || {
        last = remove_folders(path);
        last.is_ok()
    });
    match gone {
        Ok(()) => Ok(()),
        Err(_) => last.with_context(|| format!("remove cgroup {}", path.display())),
    }
}

/// Kills what runs in this folder and below: only ever processes that a lab put there.
fn kill(path: &Path) {
    if fs::write(path.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    // Kernels before 5.14 have no cgroup.kill.
    for folder in folders(path) {
        let Ok(pids) = fs::read_to_string(folder.join("cgroup.procs")) else {
            continue;
        };
        for pid in pids
            .lines()
            .filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?))
        {
            // It may have ended meanwhile, which is as well.
            let _ended = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn remove_folders(path: &Path) -> std::io::Result<()> {
    for folder in folders(path) {
        match fs::remove_dir(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// This folder and all below, the deepest first.
fn folders(path: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    if let Ok(entries) = fs::read_dir(path) {
        for entry in entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        {
            all.extend(folders(&entry.path()));
        }
    }
    all.push(path.to_owned());
    all
}

#[cfg(test)]
mod tests {
    use super::find_cgroup2;
    use std::path::Path;

    #[test]
    fn finds_cgroup2_beside_version_1() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(
            find_cgroup2(mounts).as_deref(),
            Some(Path::new("/sys/fs/cgroup/unified"))
        );
    }

    #[test]
    fn passes_over_a_mount_of_a_part_of_the_tree() {
        let mounts = "41 31 0:38 /pod /mnt rw - cgroup2 cgroup2 rw\n";
        assert_eq!(find_cgroup2(mounts), None);
    }
}
