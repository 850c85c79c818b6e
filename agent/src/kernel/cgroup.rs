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

    /// The cgroup that this process runs in.
    pub(super) fn own() -> Result<Self, KernelError> {
        let failed = |source| KernelError::system("find the agent's own cgroup".to_owned(), source);
        let absent = || io::Error::new(io::ErrorKind::NotFound, "no cgroup2 is mounted");
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(failed)?;
        let mount = mounts.lines().find_map(Mount::parse).ok_or_else(|| failed(absent()))?;
        let own = fs::read_to_string("/proc/self/cgroup").map_err(failed)?;
        let own = own
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .ok_or_else(|| failed(absent()))?;
        let below = Path::new(own).strip_prefix(mount.root).unwrap_or(Path::new(own));
        Self::open(&Path::new(mount.point).join(below.strip_prefix("/").unwrap_or(below)))
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
}
