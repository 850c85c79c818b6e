//! Named network namespaces, as `ip netns` makes them.

use crate::ip;
use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

/// Where `ip netns` keeps the names.
const NAMES: &str = "/run/netns";

/// A network namespace with a name.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes the namespace and brings its loopback up.
    pub(crate) fn create(name: &str) -> Result<Self> {
        ip::run(&["netns", "add", name])?;
        let file = File::open(path_of(name)).with_context(|| format!("network namespace {name}"))?;
        let namespace = Self {
            name: name.to_owned(),
            file,
        };
        // Addresses are ours alone: waiting a second for duplicates would only slow everything down.
        namespace.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        namespace.sysctl("net/ipv6/conf/all/accept_dad", "0")?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// A namespace that somebody else made and removes, by the file that stands for it: `/run/netns/NAME`, `/proc/PID/ns/net`.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            name: path.display().to_string(),
            file: File::open(path).with_context(|| format!("network namespace {}", path.display()))?,
        })
    }

    /// The name, as `ip netns exec` takes it; of one that was opened by its path, the path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for the namespace.
    pub fn path(&self) -> PathBuf {
        // An absolute path replaces the folder.
        path_of(&self.name)
    }

    /// Runs `work` in this namespace, on a thread of its own, so that the caller's thread stays where it is.
    ///
    /// The thread is in the caller's cgroup: sockets that `work` makes are never captured. For a pod's own
    /// sockets use [`crate::Pod::connect`] and its siblings.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
                    .with_context(|| format!("enter network namespace {}", self.name))?;
                Ok(work())
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Sets one kernel parameter of this namespace, for example `net/ipv4/tcp_fastopen`.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(name);
        self.run(|| std::fs::write(&path, value).with_context(|| format!("set {} to {value}", path.display())))?
    }

    /// Runs lines of `ip` in this namespace, all or none reported: the first that fails is the error.
    pub(crate) fn ip(&self, lines: &str) -> Result<()> {
        ip::batch(&self.name, lines)
    }

    /// Removes the name; the namespace goes when its last process and socket go.
    pub(crate) fn delete(&self) -> Result<()> {
        delete(&self.name)
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Removes the namespace of this name, if there is one.
pub(crate) fn delete(name: &str) -> Result<()> {
    if path_of(name).exists() {
        ip::run(&["netns", "delete", name])?;
    }
    Ok(())
}

/// The names that begin with `prefix`.
pub(crate) fn names(prefix: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(NAMES) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect()
}

fn path_of(name: &str) -> PathBuf {
    Path::new(NAMES).join(name)
}
