//! The search for pods' network namespaces in `/proc`.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use super::{cgroups, lookup::Seen};

/// The network namespaces of the pods with these uids, as far as any of their processes is seen. Of a pod's processes the
/// oldest is taken: the sandbox's own, which stays as long as the sandbox.
pub(super) fn search(proc: &Path, uids: &[String]) -> io::Result<HashMap<String, PathBuf>> {
    let mut oldest: HashMap<String, (u64, PathBuf)> = HashMap::new();
    for entry in fs::read_dir(proc)? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Processes come and go while we look.
        let Some((uid, started)) = examine(proc, pid) else {
            continue;
        };
        let path = netns(proc, pid);
        let is_older = oldest.get(&uid).is_none_or(|(other, _)| started < *other);
        if uids.contains(&uid) && is_older && is_foreign(proc, &path) {
            oldest.insert(uid, (started, path));
        }
    }
    Ok(oldest.into_iter().map(|(uid, (_, path))| (uid, path)).collect())
}

/// Where the network namespace of a process is.
pub(super) fn netns(proc: &Path, pid: u32) -> PathBuf {
    proc.join(pid.to_string()).join("ns/net")
}

/// Whether it is there, and not the node's own.
pub(super) fn is_foreign(proc: &Path, path: &Path) -> bool {
    let seen = Seen::at(path);
    seen.is_there() && seen != Seen::at(&netns(proc, 1))
}

/// The uid of the process' pod, and when the process started.
fn examine(proc: &Path, pid: u32) -> Option<(String, u64)> {
    let folder = proc.join(pid.to_string());
    let uid = cgroups::pod_uid(&fs::read_to_string(folder.join("cgroup")).ok()?)?;
    let stat = fs::read(folder.join("stat")).ok()?;
    Some((uid, started(&String::from_utf8_lossy(&stat))?))
}

/// Field 22 of `/proc/PID/stat`. The second, the program's name in parentheses, may contain anything.
fn started(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_read_past_any_program_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(started(&format!("7 (a) b) {rest}")), Some(4711));
        assert_eq!(started("7 (a"), None);
        assert_eq!(started("7 (a) S 1"), None);
    }

    #[test]
    fn the_oldest_process_of_a_pod_is_found_and_the_nodes_own_namespace_is_not() {
        let proc = tempfile::tempdir().expect("folder");
        let uid = "0b3a3d2c-7d0c-4f7f-9a54-0c6a0c9b9d11";
        let process = |pid: u32, uid: &str, started: u64, namespace: &str| {
            let folder = proc.path().join(pid.to_string());
            fs::create_dir_all(folder.join("ns")).expect("folder");
            fs::write(folder.join("cgroup"), format!("0::/kubepods/burstable/pod{uid}/c")).expect("cgroup");
            let fields = "1 ".repeat(18);
            fs::write(folder.join("stat"), format!("{pid} (x) S {fields}{started} 0")).expect("stat");
            let file = proc.path().join(namespace);
            fs::write(&file, "").expect("namespace");
            fs::hard_link(&file, folder.join("ns/net")).expect("link");
        };
        process(1, "none", 1, "host");
        process(30, uid, 300, "pod");
        process(31, uid, 200, "pod");
        process(32, uid, 100, "host");
        process(33, "another-pod", 50, "pod");
        fs::create_dir(proc.path().join("34")).expect("a process that has just ended");
        let found = search(proc.path(), &[uid.to_owned()]).expect("search");
        assert_eq!(found.get(uid), Some(&proc.path().join("31/ns/net")));
        assert_eq!(found.len(), 1);
    }
}
