//! How much memory this process may use.

use std::{fs, path::Path};

/// What is assumed where nothing can be read, or nothing limits: the limit in the manifests.
const USUAL: u64 = 4 << 30;

/// The part of the memory that connections may make the worker hold: one in so many.
const PART: u64 = 8;

/// Least that is of use: a few stream windows.
const LEAST: u64 = 32 << 20;

/// Bytes that connections may make the worker hold where no flag says so: an eighth of the container's memory limit, or of the
/// machine's memory or 4 GiB where there is none.
pub(crate) fn held_bytes() -> u64 {
    let limit = container_limit().unwrap_or_else(|| machine().unwrap_or(USUAL).min(USUAL));
    (limit / PART).max(LEAST)
}

/// The least of the limits of this process's cgroup and those above it.
fn container_limit() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let unified = own.lines().find_map(|line| line.strip_prefix("0::"));
    let v1 = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|name| name == "memory").then_some(path)
    });
    let in_v2 = unified.and_then(|path| least(Path::new("/sys/fs/cgroup"), path, "memory.max"));
    let in_v1 = v1.and_then(|path| least(Path::new("/sys/fs/cgroup/memory"), path, "memory.limit_in_bytes"));
    in_v2.into_iter().chain(in_v1).min()
}

/// Looks from `path` below `root` upwards. In a cgroup namespace the path is that of the namespace's root.
fn least(root: &Path, path: &str, file: &str) -> Option<u64> {
    let start = root.join(path.trim_start_matches('/'));
    let limits = start
        .ancestors()
        .take_while(|folder| folder.starts_with(root))
        .filter_map(|folder| parse_limit(&fs::read_to_string(folder.join(file)).ok()?));
    limits.min()
}

/// `max`, or v1's largest number, is no limit.
fn parse_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < 1 << 60)
}

fn machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_limit("4294967296\n"), Some(4 << 30));
        assert_eq!(parse_limit("max\n"), None);
        assert_eq!(parse_limit("9223372036854771712\n"), None);
        assert!(machine().is_some_and(|bytes| bytes > 1 << 20));
        assert!(held_bytes() >= LEAST);
    }

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let root = std::env::temp_dir().join(format!("culvert-limits-{}", std::process::id()));
        let inner = root.join("pods/one/worker");
        fs::create_dir_all(&inner).unwrap();
        fs::write(root.join("pods/memory.max"), "1000000\n").unwrap();
        fs::write(root.join("pods/one/memory.max"), "2000000\n").unwrap();
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        assert_eq!(least(&root, "/pods/one/worker", "memory.max"), Some(1_000_000));
        assert_eq!(least(&root, "/", "memory.max"), None);
        fs::remove_dir_all(&root).unwrap();
    }
}
