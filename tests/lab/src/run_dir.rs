//! The folder of one lab below `/run/culvert-lab`, and removing what a lab left anywhere.
//!
//! The folder's `lock` file is locked for as long as the owning program lives, so a lab whose lock is free was left by a
//! program that was killed. A file `kept` in the folder says that it is meant to outlive its owner.

use crate::{cgroup, netns, wait_until};
use anyhow::{Context, Result, bail};
use rustix::{
    fs::{FlockOperation, flock},
    mount::{MountFlags, UnmountFlags, mount, unmount},
};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

/// The folder above all labs' folders.
const LABS: &str = "/run/culvert-lab";

/// One lab's folder, locked.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Makes and locks the folder of the lab of this name, after removing what an earlier one of that name left.
    pub(crate) fn create(name: &str) -> Result<Self> {
        check_name(name)?;
        // Until our own lock is held, another program would take the folder for one that was left behind.
        let _exclusive = exclusive()?;
        wait_for_owner(name);
        sweep_alone(name)?;
        let path = path_of(name);
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        let lock = lock_of(&path)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).with_context(|| format!("lock the lab {name}"))?;
        for folder in ["bpf", "config", "log", "state", "run"] {
            fs::create_dir_all(path.join(folder)).with_context(|| format!("make {}", path.display()))?;
        }
        mount("bpf", path.join("bpf"), "bpf", MountFlags::empty(), None)
            .with_context(|| format!("mount bpffs at {}", path.join("bpf").display()))?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the lab outlive this program.
    pub(crate) fn keep(&self) -> Result<()> {
        fs::write(self.path.join("kept"), "").context("mark the lab as kept")
    }
}

/// The cgroup2 folder of the lab of this name.
pub(crate) fn cgroup_of(name: &str) -> Result<PathBuf> {
    Ok(cgroup::mount_point()?.join(format!("culvert-{name}")))
}

/// Removes what the lab of this name left; fails when its owner is alive.
pub(crate) fn sweep(name: &str) -> Result<()> {
    check_name(name)?;
    let _exclusive = exclusive()?;
    wait_for_owner(name);
    sweep_alone(name)?;
    forget_folder_of_labs();
    Ok(())
}

/// [`sweep`] while no other program makes or sweeps labs.
fn sweep_alone(name: &str) -> Result<()> {
    if is_in_use(name)? {
        bail!("the lab {name} is in use by another program");
    }
    remove_all(name)
}

/// Waits a moment for the owner to be gone: a child that it was about to start when it was killed holds its lock a
/// little longer. An owner that stays is the next step's error.
fn wait_for_owner(name: &str) {
    let _stays = wait_until("the owner is gone", Duration::from_secs(1), || {
        !is_in_use(name).unwrap_or(true)
    });
}

fn is_in_use(name: &str) -> Result<bool> {
    let path = path_of(name);
    Ok(path.exists() && flock(lock_of(&path)?, FlockOperation::NonBlockingLockExclusive).is_err())
}

/// Removes what killed programs left.
pub(crate) fn sweep_abandoned() {
    let (Ok(_exclusive), Ok(entries)) = (exclusive(), fs::read_dir(LABS)) else {
        return;
    };
    for entry in entries.flatten() {
        if let Ok(name) = entry.file_name().into_string()
            && !entry.path().join("kept").exists()
        {
            // Those in use refuse, and a failure with another program's leavings must not stop this one.
            let _swept = sweep_alone(&name);
        }
    }
}

/// Removes all that belongs to the lab of this name, which this program owns.
pub(crate) fn remove(name: &str) -> Result<()> {
    remove_all(name)?;
    let _exclusive = exclusive()?;
    forget_folder_of_labs();
    Ok(())
}

/// Removes processes, cgroups, namespaces, mounts and files.
///
/// Goes on after a failure, so that one stuck part does not leave the rest; the first failure is the error.
fn remove_all(name: &str) -> Result<()> {
    let path = path_of(name);
    let mut first = cgroup::mount_point().and_then(|_| cgroup::remove(&cgroup_of(name)?));
    let mut note = |done: Result<()>| {
        if first.is_ok() {
            first = done;
        }
    };
    for namespace in netns::names(&format!("cv-{name}-")) {
        note(netns::delete(&namespace));
    }
    let bpf = path.join("bpf");
    // Not mounted is as good; a mount that stays makes the removal below fail with its path.
    let _unmounted = unmount(&bpf, UnmountFlags::DETACH);
    if path.exists() {
        note(fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display())));
    }
    first
}

/// Removes the folder above all labs' folders when there are no more.
fn forget_folder_of_labs() {
    // Fails while there are other labs, as it should.
    let _removed = fs::remove_dir(LABS);
}

/// Keeps other programs from making and sweeping labs as long as the answer lives. The lock is on the folder above,
/// so that it needs no file.
fn exclusive() -> Result<File> {
    let folder = File::open("/run").context("open /run")?;
    flock(&folder, FlockOperation::LockExclusive).context("lock /run")?;
    Ok(folder)
}

fn path_of(name: &str) -> PathBuf {
    Path::new(LABS).join(name)
}

fn lock_of(path: &Path) -> Result<File> {
    let lock = path.join("lock");
    File::options()
        .create(true)
        .append(true)
        .open(&lock)
        .with_context(|| lock.display().to_string())
}

/// Names become parts of paths and of namespaces' names. A dash would let `a` sweep the namespaces of `a-b`.
fn check_name(name: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() || name.len() > 40 || !name.bytes().all(good) {
        bail!("a lab's name is 1 to 40 of a-z, 0-9 and '_', not {name:?}");
    }
    Ok(())
}
