//! cgroups as the programs know them: by identifier.

use super::KernelError;
use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// `CGROUP2_SUPER_MAGIC` of `linux/magic.h`.
const CGROUP2_MAGIC: u64 = 0x6367_7270;
/// The identifier of the topmost cgroup of all.
const ROOT_ID: u64 = 1;

/// How far below the node's topmost cgroup the one of all pods is looked for: `kubelet.slice/kubelet-kubepods.slice`, and a
/// step more.
const PODS_DEPTH: usize = 3;

/// An open cgroup2 folder.
#[derive(Debug)]
pub(super) struct Cgroup {
    pub(super) path: PathBuf,
    /// What `bpf_get_current_cgroup_id` returns; also the folder's inode number.
    pub(super) id: u64,
    pub(super) file: File,
}

impl Cgroup {
    pub(super) fn open(path: &Path) -> Result<Self, KernelError> {
        let failed = |source| KernelError::system(format!("open the cgroup {}", path.display()), source);
        let path = fs::canonicalize(path).map_err(failed)?;
        let file = File::open(&path).map_err(failed)?;
        let kind = rustix::fs::fstatfs(&file).map_err(|errno| failed(errno.into()))?.f_type;
        if kind as u64 != CGROUP2_MAGIC {
            return Err(KernelError::FileSystem {
                path,
                expected: "cgroup2",
            });
        }
        let id = file.metadata().map_err(failed)?.ino();
        Ok(Self { path, id, file })
    }

    /// The cgroup2 folder that contains all others that can be seen here.
    pub(super) fn mounted() -> Result<Self, KernelError> {
        let failed = |source| KernelError::system("find where cgroup2 is mounted".to_owned(), source);
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(failed)?;
        let widest = Mount::widest(&mounts);
        let absent = || io::Error::new(io::ErrorKind::NotFound, "no cgroup2 in /proc/self/mountinfo");
        Self::open(Path::new(widest.ok_or_else(|| failed(absent()))?.point))
    }

    /// The cgroup at or below `root` that a process runs in.
    ///
    /// Found by looking for it in each: `/proc/PID/cgroup` says where it is seen from this process's cgroup namespace, and a
    /// container has one of its own.
    pub(super) fn of_process(pid: u32, root: &Self) -> Result<Self, KernelError> {
        let pid = pid.to_string();
        let mut folders = vec![root.path.clone()];
        while let Some(folder) = folders.pop() {
            // Cgroups go while one looks.
            let procs = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            if procs.lines().any(|line| line == pid) {
                return Self::open(&folder);
            }
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
            folders.extend(entries.filter(is_folder).map(|entry| entry.path()));
        }
        Err(KernelError::NoCgroup {
            pid,
            cgroup: root.path.clone(),
        })
    }

    /// The cgroup at or below `root` that a kubelet runs all its pods in: the one that this process's cgroup `own` is in, or,
    /// where that is in none, the first that is found. There may be several: a kubelet whose driver was changed leaves the
    /// folder of the other one behind.
    pub(super) fn of_all_pods(own: &Self, root: &Self) -> Result<Self, KernelError> {
        let name = |path: &&Path| {
            path.file_name()
                .is_some_and(|name| is_all_pods(&name.to_string_lossy()))
        };
        if let Some(path) = own.path.ancestors().find(name) {
            return Self::open(path);
        }
        let mut level = vec![root.path.clone()];
        for _ in 0..PODS_DEPTH {
            let entries = level
                .iter()
                .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
            let below: Vec<PathBuf> = entries.filter(is_folder).map(|entry| entry.path()).collect();
            let is_all_pods = |path: &&PathBuf| {
                path.file_name()
                    .is_some_and(|name| is_all_pods(&name.to_string_lossy()))
            };
            if let Some(found) = below.iter().find(is_all_pods) {
                return Self::open(found);
            }
            level = below;
        }
        Err(KernelError::NoPods {
            cgroup: root.path.clone(),
        })
    }

    /// The cgroup of the Kubernetes pod that this is a container's of, or else itself.
    pub(super) fn of_pod(self) -> Result<Self, KernelError> {
        let is_pod = |path: &&Path| path.file_name().is_some_and(|name| is_pod(&name.to_string_lossy()));
        match self.path.ancestors().find(is_pod) {
            Some(path) if path != self.path => Self::open(path),
            _ => Ok(self),
        }
    }

    /// The identifiers of this and of all below it.
    pub(super) fn below(&self) -> Vec<u64> {
        let mut ids = vec![self.id];
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            // Cgroups go while one looks.
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten().filter(is_folder) {
                ids.extend(entry.metadata().map(|metadata| metadata.ino()).ok());
                folders.push(entry.path());
            }
        }
        ids
    }

    /// Whether a kubelet made it for one pod.
    pub(super) fn is_of_pod(&self) -> bool {
        self.path
            .file_name()
            .is_some_and(|name| is_pod(&name.to_string_lossy()))
    }

    /// Whether this is `other` or inside it.
    ///
    /// By identifiers, because one cgroup can be seen under several paths. Above the root of a cgroup namespace nothing
    /// can be seen; then only the topmost cgroup is known to contain this one.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        let is_other = |path: &Path| fs::metadata(path).is_ok_and(|found| found.ino() == other.id);
        other.id == ROOT_ID || self.path.ancestors().any(is_other)
    }
}

fn is_folder(entry: &fs::DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

/// Whether a kubelet named it for all its pods: `kubepods` with the cgroupfs driver, `kubepods.slice` with systemd's, and both
/// below a `--cgroup-root` of its own (`kubelet-kubepods.slice`).
fn is_all_pods(name: &str) -> bool {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    name == "kubepods" || name.ends_with("-kubepods")
}

/// Whether a kubelet named it: `pod<uid>` with the cgroupfs driver, `kubepods-burstable-pod<uid>.slice` with systemd's, where
/// the uid has underscores.
fn is_pod(name: &str) -> bool {
    const UID: usize = 36;
    let name = match name.strip_suffix(".slice") {
        Some(slice) => slice.rsplit('-').next().unwrap_or(slice),
        None => name,
    };
    let Some(uid) = name.strip_prefix("pod") else {
        return false;
    };
    let is_static = uid.len() == 32 && uid.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_static || (uid.len() == UID && uid.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b'-' | b'_')))
}

/// A line of mountinfo that is about cgroup2.
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        after.starts_with("cgroup2 ").then_some(Self { root, point })
    }

    /// The mount that shows most. In a container it is the node's: its root is above that of the container's own cgroup
    /// namespace (`/../..`), or closer to the top.
    fn widest(mounts: &'a str) -> Option<Self> {
        mounts.lines().filter_map(Self::parse).min_by_key(|mount| {
            let steps = || mount.root.split('/').filter(|step| !step.is_empty());
            let above = steps().filter(|step| *step == "..").count();
            (std::cmp::Reverse(above), steps().count() - above)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_beside_version_1() {
        let v1 = "37 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd";
        let v2 = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        assert!(Mount::parse(v1).is_none());
        assert_eq!(
            Mount::parse(v2).map(|mount| mount.point),
            Some("/sys/fs/cgroup/unified")
        );
    }

    #[test]
    fn the_node_is_seen_from_a_container() {
        let own = "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup rw";
        let node = "52 31 0:38 /../../.. /host/sys/fs/cgroup rw master:9 - cgroup2 cgroup2 rw";
        let shared = "41 31 0:38 /kubepods/pod1/c /sys/fs/cgroup rw - cgroup2 cgroup rw\n\
                      52 31 0:38 / /host/sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        let point = |mounts: &str| Mount::widest(mounts).map(|mount| mount.point.to_owned());
        assert_eq!(point(&format!("{own}\n{node}")).as_deref(), Some("/host/sys/fs/cgroup"));
        assert_eq!(point(shared).as_deref(), Some("/host/sys/fs/cgroup/unified"));
    }

    #[test]
    fn the_cgroup_of_all_pods_is_known_under_each_of_its_names() {
        for all in ["kubepods", "kubepods.slice", "kubelet-kubepods.slice"] {
            assert!(is_all_pods(all), "{all}");
        }
        for other in ["kubepods-besteffort.slice", "system.slice", "pods"] {
            assert!(!is_all_pods(other), "{other}");
        }
    }

    #[test]
    fn of_two_cgroups_of_all_pods_the_one_that_the_agent_is_in_counts() {
        let mount = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let mount = PathBuf::from(Mount::widest(&mount).expect("a cgroup2").point);
        let root = mount.join(format!("cv-all-pods-{}", std::process::id()));
        let own = root.join("z.slice/z-kubepods.slice/agent");
        let stale = root.join("kubepods");
        for folder in [&own, &stale] {
            fs::create_dir_all(folder).expect("make cgroups (needs root)");
        }
        let open = |path: &Path| Cgroup::open(path).expect("a cgroup");
        let found = Cgroup::of_all_pods(&open(&own), &open(&root)).map(|found| found.path);
        let elsewhere = Cgroup::of_all_pods(&open(&root), &open(&root)).map(|found| found.path);
        let parent = own.parent().expect("a parent").to_owned();
        for folder in [own.as_path(), &parent, &root.join("z.slice"), &stale, &root] {
            fs::remove_dir(folder).expect("remove a cgroup");
        }
        assert_eq!(found.expect("found"), parent);
        assert_eq!(elsewhere.expect("found"), stale);
    }

    #[test]
    fn pods_are_told_from_containers_and_classes() {
        for pod in [
            "pod0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
            "kubepods-besteffort-pod0f1e2d3c_4b5a_6978_8796_a5b4c3d2e1f0.slice",
            "pod0123456789abcdef0123456789abcdef",
        ] {
            assert!(is_pod(pod), "{pod}");
        }
        for other in [
            "kubepods",
            "kubepods-burstable.slice",
            "podman",
            "cri-containerd-0f1e.scope",
            "proxy",
        ] {
            assert!(!is_pod(other), "{other}");
        }
    }
}
