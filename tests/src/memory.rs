//! What processes have in memory, and a limit on it, as a container has one.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Resident memory of a process, bytes.
pub fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// What a process makes the machine hold, by who would get it back if the process ended.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// Its proportional share of all that it has resident, bytes: what it has with others counts by their number.
    pub pss: u64,
    /// The part of it that is in no file, bytes: heap, stacks, tables.
    pub anonymous: u64,
    /// The part of it that is in files, bytes: text and constants of programs and libraries.
    pub file: u64,
}

/// What a process holds now.
pub fn footprint(pid: u32) -> Footprint {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    };
    Footprint {
        pss: of("Pss:"),
        anonymous: of("Pss_Anon:"),
        file: of("Pss_File:"),
    }
}

/// A control group of the memory controller, of either version, which goes when the value is dropped.
#[derive(Debug)]
pub struct MemoryLimit {
    folder: PathBuf,
    /// Where its processes go in the end: the group above.
    above: PathBuf,
}

impl MemoryLimit {
    /// Puts processes, and what they start from now on, below a limit. What they hold already does not count with version 1.
    pub fn of(name: &str, bytes: u64, pids: &[u32]) -> Self {
        let (above, file) = controller();
        let folder = above.join(format!("culvert-{name}-{}", std::process::id()));
        fs::create_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let limit = Self { folder, above };
        fs::write(limit.folder.join(file), bytes.to_string()).unwrap();
        for pid in pids {
            fs::write(limit.folder.join("cgroup.procs"), pid.to_string()).unwrap();
        }
        limit
    }

    /// How many of its processes the kernel has killed for want of memory.
    pub fn kills(&self) -> u64 {
        let files = ["memory.oom_control", "memory.events"].map(|file| self.folder.join(file));
        let text = files.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.unwrap().parse().unwrap()
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        let left = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        for pid in left.lines() {
            // It may have ended meanwhile.
            let _ = fs::write(self.above.join("cgroup.procs"), pid);
        }
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Where the memory controller is mounted, and its file with the limit.
fn controller() -> (PathBuf, &'static str) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    for line in mounts.lines() {
        let Some((mount, kind)) = line.split_once(" - ") else {
            continue;
        };
        let root = Path::new(mount.split(' ').nth(4).unwrap());
        if kind.starts_with("cgroup ") && kind.rsplit([' ', ',']).any(|option| option == "memory") {
            return (root.to_path_buf(), "memory.limit_in_bytes");
        }
        let controllers = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
        if kind.starts_with("cgroup2 ") && controllers.split_whitespace().any(|one| one == "memory") {
            return (root.to_path_buf(), "memory.max");
        }
    }
    panic!("no control groups with the memory controller are mounted, which this test needs");
}
