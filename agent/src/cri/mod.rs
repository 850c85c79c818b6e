//! Where running pods have their network namespaces: asked of the container runtime, or seen in `/proc`.
//!
//! | module | what |
//! |---|---|
//! | `client` | calls the container runtime by its own protocol (CRI) |
//! | [`info`] | reads what runtimes tell beyond the protocol: JSON, different in each |
//! | [`cgroups`] | finds a pod's uid in `/proc/PID/cgroup` |
//! | `lookup` | who is looked for, and what was found at a path |
//! | `processes` | searches `/proc` |
//!
//! A path that is handed out names a network namespace at that moment. It may come to mean nothing, or another one: who uses
//! it opens it at once and compares now and then ([`Seen`]).

pub mod cgroups;
mod client;
pub mod info;
mod lookup;
mod processes;

use std::{
    collections::HashMap,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

pub use self::lookup::{Seen, Sought};

use self::client::Sandbox;

/// Where container runtimes usually listen. The chart can mount another runtime's folder in place of containerd's.
pub const SOCKETS: [&str; 5] = [
    "/run/containerd/containerd.sock",
    "/run/containerd/crio.sock",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
    "/var/run/cri-dockerd.sock",
];

/// `NSFS_MAGIC` of `linux/magic.h`: what file system an open namespace is on.
const NSFS: i64 = 0x6e73_6673;

/// A running pod's network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// A path that names it at the moment.
    pub netns: PathBuf,
    /// Its addresses, as far as the container runtime tells them.
    pub addresses: Vec<IpAddr>,
}

/// What has been done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls of the container runtime.
    pub calls: u64,
    /// Those that failed.
    pub failures: u64,
    /// Network namespaces that it told.
    pub by_cri: u64,
    /// Those found in `/proc`.
    pub by_proc: u64,
}

/// Finds the network namespaces of running pods.
#[derive(Debug)]
pub struct Locator {
    runtime: client::Runtime,
    proc: PathBuf,
    by_cri: AtomicU64,
    by_proc: AtomicU64,
}

impl Locator {
    /// Asks at the first of `sockets` that is there, else searches `proc`, where the processes of the whole node must be
    /// seen.
    pub fn new(sockets: Vec<PathBuf>, proc: PathBuf) -> Self {
        Self {
            runtime: client::Runtime::new(sockets),
            proc,
            by_cri: AtomicU64::new(0),
            by_proc: AtomicU64::new(0),
        }
    }

    /// Where processes are seen.
    pub fn proc(&self) -> &Path {
        &self.proc
    }

    /// What has been done so far.
    pub fn counts(&self) -> Counts {
        Counts {
            calls: self.runtime.calls.load(Ordering::Relaxed),
            failures: self.runtime.failures.load(Ordering::Relaxed),
            by_cri: self.by_cri.load(Ordering::Relaxed),
            by_proc: self.by_proc.load(Ordering::Relaxed),
        }
    }

    /// One answer for each pod: where its network namespace is, `None` when no sandbox of it runs, or why nobody can say.
    /// Takes bounded time.
    pub async fn find(&self, sought: Vec<Sought>) -> Vec<Result<Option<Found>, String>> {
        let asked = self.runtime.sandboxes(&sought).await;
        let mut answers: Vec<Option<Result<Option<Found>, String>>> = match &asked {
            Ok(sandboxes) => sandboxes.iter().map(|sandbox| self.place(sandbox)).collect(),
            Err(_) => vec![None; sought.len()],
        };
        if answers.iter().any(Option::is_none) {
            self.search_processes(&sought, &mut answers, asked.err()).await;
        }
        let nobody = || Err("neither the container runtime nor /proc tells".to_owned());
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(nobody))
            .collect()
    }

    /// `None` when the runtime knows the sandbox, but not a path that can be used here.
    fn place(&self, sandbox: &Result<Option<Sandbox>, String>) -> Option<Result<Option<Found>, String>> {
        let Ok(sandbox) = sandbox else { return None };
        let Some(sandbox) = sandbox else { return Some(Ok(None)) };
        let by_name = sandbox.netns.as_deref().and_then(|path| visible(path, &self.proc));
        let by_process = || {
            let path = processes::netns(&self.proc, sandbox.pid?);
            processes::is_foreign(&self.proc, &path).then_some(path)
        };
        let netns = by_name.or_else(by_process)?;
        self.by_cri.fetch_add(1, Ordering::Relaxed);
        Some(Ok(Some(Found {
            netns,
            addresses: sandbox.addresses.clone(),
        })))
    }

    async fn search_processes(
        &self,
        sought: &[Sought],
        answers: &mut [Option<Result<Option<Found>, String>>],
        no_runtime: Option<String>,
    ) {
        let wanted: Vec<String> = sought
            .iter()
            .zip(&*answers)
            .filter(|(_, answer)| answer.is_none())
            .map(|(sought, _)| sought.uid.clone())
            .collect();
        let proc = Arc::<Path>::from(self.proc.as_path());
        let searched = tokio::task::spawn_blocking(move || processes::search(&proc, &wanted)).await;
        let found: Result<HashMap<String, PathBuf>, String> = match searched {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(format!("{}: {error}", self.proc.display())),
            Err(_) => Err("the search of /proc was broken off".into()),
        };
        for (sought, answer) in sought.iter().zip(answers).filter(|(_, answer)| answer.is_none()) {
            *answer = Some(match (&found, &no_runtime) {
                (Ok(found), _) if found.contains_key(&sought.uid) => {
                    self.by_proc.fetch_add(1, Ordering::Relaxed);
                    Ok(found.get(&sought.uid).map(|netns| Found {
                        netns: netns.clone(),
                        addresses: Vec::new(),
                    }))
                }
                // Without a runtime, /proc has the last word; else the two contradict each other.
                (Ok(_), Some(_)) => Ok(None),
                (Ok(_), None) => Err(
                    "the container runtime runs a sandbox of it, but its network namespace is not \
                                      visible here, neither by name nor in /proc (is /run/netns mounted, and hostPID \
                                      set?)"
                        .into(),
                ),
                (Err(error), Some(no_runtime)) => Err(format!("{no_runtime}; {error}")),
                (Err(error), None) => Err(error.clone()),
            });
        }
    }
}

/// The path under which a network namespace that the node knows by `path` can be opened here, if it can: as it is, without
/// the old name of `/run`, or either of these as the node's first process sees it. The old name is a link to `/run`, and so
/// leads nowhere but to our own `/run` when it is followed from here.
pub fn visible(path: &Path, proc: &Path) -> Option<PathBuf> {
    let run = path.strip_prefix("/var/run").map(|rest| Path::new("/run").join(rest));
    let names = [Some(path.to_path_buf()), run.ok()];
    let by_init = |path: &PathBuf| path.strip_prefix("/").map(|rest| proc.join("1/root").join(rest)).ok();
    let seen_by_init = names.clone().map(|path| path.as_ref().and_then(by_init));
    let candidates = names.into_iter().chain(seen_by_init);
    candidates.flatten().find(|path| is_namespace(path))
}

/// A file where a namespace should be mounted is an ordinary one where the mount has not been passed on.
fn is_namespace(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type == NSFS)
}

#[cfg(test)]
mod tests {
    use super::visible;
    use std::{fs, os::unix::fs::symlink, path::Path};

    #[test]
    fn a_namespace_is_found_under_the_old_name_of_run_as_the_nodes_first_process_sees_it() {
        let proc = tempfile::tempdir().expect("folder");
        let init = proc.path().join("1/root");
        fs::create_dir_all(init.join("run/netns")).expect("folder");
        fs::create_dir_all(init.join("var")).expect("folder");
        // Absolute, as Debian and others have it: here it leads to this machine's own.
        symlink("/run", init.join("var/run")).expect("link");
        let name = format!("culvert-test-{}", std::process::id());
        symlink("/proc/self/ns/net", init.join("run/netns").join(&name)).expect("link");
        let expected = init.join("run/netns").join(&name);
        for folder in ["/var/run/netns", "/run/netns"] {
            let found = visible(&Path::new(folder).join(&name), proc.path());
            assert_eq!(found.as_ref(), Some(&expected), "{folder}");
        }
        fs::remove_file(&expected).expect("link");
        fs::write(&expected, "").expect("file");
        let found = visible(&Path::new("/var/run/netns").join(&name), proc.path());
        assert_eq!(found, None, "a file in place of a namespace that is not mounted here");
    }
}
