//! What of the machine itself changes while any cluster is up, and is put back when the last one goes down.
//!
//! Each cluster holds a claim: a file named for it in [`CLAIMS`], with the path of its state. The first claim raises
//! one setting and makes the folders that nodes mount over; both are written down before they are done.

use crate::{Error, error::Doing};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// In a folder that does not outlive the machine's boot, as what it describes does not either.
const CLAIMS: &str = "/run/culvert-clusters";
const LOCK: &str = "lock";
const SAVED: &str = "saved";
const FOLDERS: &str = "folders";

/// Each kubelet, containerd and pod takes several; Linux' default is 128 for all.
const INSTANCES: &str = "/proc/sys/fs/inotify/max_user_instances";
const WANTED: u64 = 1024;

/// Over these a node mounts folders of its own.
pub(crate) const MOUNT_POINTS: [&str; 6] = [
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/var/lib/cni",
    "/var/lib/culvert",
    "/etc/cni/net.d",
    "/opt/cni/bin",
];

/// Claims the machine for a cluster with its state in `state`.
pub(crate) fn claim(name: &str, state: &Path) -> Result<(), Error> {
    let _lock = lock()?;
    let file = claim_of(name);
    if let Ok(other) = fs::read_to_string(&file) {
        return Err(Error::Exists {
            name: name.to_owned(),
            state: other.into(),
        });
    }
    fs::write(&file, state.to_string_lossy().as_bytes()).doing(|| format!("write {}", file.display()))?;
    raise()?;
    make_folders()
}

/// Whether a cluster of this name is claimed by another state folder than `state`.
pub(crate) fn claimed_elsewhere(name: &str, state: &Path) -> Option<PathBuf> {
    let other = PathBuf::from(fs::read_to_string(claim_of(name)).ok()?);
    (other != state).then_some(other)
}

/// Gives the claim up; the last one to do so puts everything back.
pub(crate) fn release(name: &str) -> Result<(), Error> {
    let _lock = lock()?;
    remove_file(&claim_of(name))?;
    let entries = fs::read_dir(CLAIMS).doing(|| format!("read {CLAIMS}"))?;
    let claims = entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("cluster-"));
    if claims {
        return Ok(());
    }
    let saved = Path::new(CLAIMS).join(SAVED);
    if let Ok(value) = fs::read_to_string(&saved) {
        fs::write(INSTANCES, value).doing(|| format!("write {INSTANCES}"))?;
    }
    let folders = Path::new(CLAIMS).join(FOLDERS);
    for folder in fs::read_to_string(&folders).unwrap_or_default().lines().rev() {
        // What somebody else has put something into by now stays.
        let _ = fs::remove_dir(folder);
    }
    for file in [&saved, &folders, &Path::new(CLAIMS).join(LOCK)] {
        remove_file(file)?;
    }
    let _ = fs::remove_dir(CLAIMS);
    Ok(())
}

fn claim_of(name: &str) -> PathBuf {
    Path::new(CLAIMS).join(format!("cluster-{name}"))
}

/// Held while the claims are looked at or changed; the lock goes with the file's descriptor.
fn lock() -> Result<File, Error> {
    let path = Path::new(CLAIMS).join(LOCK);
    loop {
        fs::create_dir_all(CLAIMS).doing(|| format!("make {CLAIMS}"))?;
        let file = match File::create(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.doing(|| format!("open {}", path.display()))?,
        };
        file.lock().doing(|| format!("lock {}", path.display()))?;
        // The last cluster to go removes the file: a lock on a removed one keeps nobody out.
        let ours = file.metadata().doing(|| format!("examine {}", path.display()))?.ino();
        if path.metadata().is_ok_and(|metadata| metadata.ino() == ours) {
            return Ok(file);
        }
    }
}

fn raise() -> Result<(), Error> {
    let now = fs::read_to_string(INSTANCES).doing(|| format!("read {INSTANCES}"))?;
    if now.trim().parse::<u64>().is_ok_and(|now| now >= WANTED) {
        return Ok(());
    }
    let saved = Path::new(CLAIMS).join(SAVED);
    if !saved.exists() {
        fs::write(&saved, now.trim()).doing(|| format!("write {}", saved.display()))?;
    }
    fs::write(INSTANCES, WANTED.to_string()).doing(|| format!("write {INSTANCES}"))
}

/// Makes the folders, and writes down each that was missing before it makes it.
fn make_folders() -> Result<(), Error> {
    let list = Path::new(CLAIMS).join(FOLDERS);
    let mut made = fs::read_to_string(&list).unwrap_or_default();
    for folder in MOUNT_POINTS {
        let mut ancestors: Vec<&Path> = Path::new(folder).ancestors().collect();
        ancestors.reverse();
        for path in ancestors.into_iter().filter(|path| !path.exists()) {
            made.push_str(&format!("{}\n", path.display()));
            fs::write(&list, &made).doing(|| format!("write {}", list.display()))?;
            fs::create_dir(path).doing(|| format!("make {}", path.display()))?;
        }
    }
    Ok(())
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
