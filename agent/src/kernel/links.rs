//! Links: the attachments of programs, pinned so that they outlive this process.

use super::{
    KernelError,
    sys::{self, Hook, Target},
};
use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

const POD: &str = "pod-";
const GETSOCKOPT: &str = "getsockopt-";
const SETSOCKOPT: &str = "setsockopt-";

/// The folder of pinned links.
#[derive(Debug)]
pub(super) struct Links {
    folder: PathBuf,
}

/// A pin's name, without the folder.
pub(super) enum Name {
    /// One on the node, by the program's name.
    Node(&'static str),
    /// `sk_lookup` of the pod with this cookie.
    Pod(u64),
    /// `getsockopt` on the cgroup with this identifier.
    Getsockopt(u64),
    /// `setsockopt` on the cgroup with this identifier.
    Setsockopt(u64),
}

impl Name {
    fn file(&self) -> String {
        match self {
            Self::Node(program) => (*program).to_owned(),
            Self::Pod(cookie) => format!("{POD}{cookie}"),
            Self::Getsockopt(id) => format!("{GETSOCKOPT}{id}"),
            Self::Setsockopt(id) => format!("{SETSOCKOPT}{id}"),
        }
    }
}

impl Links {
    /// Uses a folder, made if absent.
    pub(super) fn open(folder: PathBuf) -> Result<Self, KernelError> {
        fs::create_dir_all(&folder).map_err(|source| failed("make", &folder, source))?;
        Ok(Self { folder })
    }

    /// Attaches a program, or puts it in the place of the one that an earlier process attached there. True if so.
    pub(super) fn attach(
        &self,
        name: &Name,
        program: BorrowedFd<'_>,
        at: BorrowedFd<'_>,
        target: Target,
        hook: Hook,
    ) -> Result<bool, KernelError> {
        let path = self.folder.join(name.file());
        if let Some(link) = existing(&path)? {
            let same = sys::link_target(link.as_fd()).is_ok_and(|found| found == target);
            if same && sys::link_update(link.as_fd(), program).is_ok() {
                return Ok(true);
            }
        }
        // Attached before the old one goes, so that there is no gap.
        let link = sys::link_create(program, at, hook).map_err(|source| failed("attach", &path, source))?;
        remove(&path)?;
        sys::pin(link.as_fd(), &path).map_err(|source| failed("pin", &path, source))?;
        Ok(false)
    }

    /// Ends an attachment at once. Nothing happens if there is none.
    pub(super) fn detach(&self, name: &Name) -> Result<(), KernelError> {
        let path = self.folder.join(name.file());
        if let Some(link) = existing(&path)? {
            // Fails when the target is gone already, which is as good.
            let _ = sys::link_detach(link.as_fd());
        }
        remove(&path)
    }

    /// Ends all attachments, capture first. What another version attached goes before its pins do, because letting go of
    /// a pin detaches some time later.
    pub(super) fn detach_all(&self) -> Result<(), KernelError> {
        let mut files = self.files()?;
        files.sort_by_key(|(file, _)| !file.contains("connect"));
        for (_, path) in files {
            if let Some(link) = existing(&path)? {
                let _ = sys::link_detach(link.as_fd());
            }
            remove(&path)?;
        }
        Ok(())
    }

    /// The cookies of pods with an attachment, and whether their network namespace still exists.
    pub(super) fn pods(&self) -> Result<Vec<(u64, bool)>, KernelError> {
        let mut pods = Vec::new();
        for (file, path) in self.files()? {
            let Some(cookie) = file.strip_prefix(POD).and_then(|text| text.parse().ok()) else {
                continue;
            };
            pods.push((cookie, is_attached(&path)?));
        }
        Ok(pods)
    }

    /// Puts a program in the place of the ones attached to pods that are still there.
    pub(super) fn update_pods(&self, program: BorrowedFd<'_>) -> Result<(), KernelError> {
        for (file, path) in self.files()? {
            if !file.starts_with(POD) {
                continue;
            }
            let Some(link) = existing(&path)? else { continue };
            if let Err(source) = sys::link_update(link.as_fd(), program)
                // A namespace that is gone, which may happen at any moment, has nothing to update.
                && sys::link_target(link.as_fd()).is_ok_and(|target| target != Target::Nothing)
            {
                return Err(failed("update", &path, source));
            }
        }
        Ok(())
    }

    /// Removes the pins of socket option programs whose cgroup is gone, or is not in `keep`.
    pub(super) fn collect_sockopts(&self, keep: impl Fn(u64) -> bool) -> Result<(), KernelError> {
        for (file, path) in self.files()? {
            let id = file.strip_prefix(GETSOCKOPT).or_else(|| file.strip_prefix(SETSOCKOPT));
            let Some(id) = id.and_then(|text| text.parse().ok()) else {
                continue;
            };
            if !keep(id) && !is_attached(&path)? {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// The node's programs, and whether each is attached.
    pub(super) fn node(&self, programs: &[&'static str]) -> Vec<(&'static str, bool)> {
        let is_there = |program: &&'static str| is_attached(&self.folder.join(*program)).unwrap_or(false);
        programs.iter().map(|program| (*program, is_there(program))).collect()
    }

    fn files(&self) -> Result<Vec<(String, PathBuf)>, KernelError> {
        let reading = |source| failed("read", &self.folder, source);
        let entries = fs::read_dir(&self.folder).map_err(reading)?;
        entries
            .map(|entry| {
                let entry = entry.map_err(reading)?;
                Ok((entry.file_name().to_string_lossy().into_owned(), entry.path()))
            })
            .collect()
    }
}

fn is_attached(path: &Path) -> Result<bool, KernelError> {
    let Some(link) = existing(path)? else { return Ok(false) };
    let target = sys::link_target(link.as_fd()).map_err(|source| failed("look at", path, source))?;
    Ok(target != Target::Nothing)
}

fn existing(path: &Path) -> Result<Option<std::os::fd::OwnedFd>, KernelError> {
    match sys::open_pin(path) {
        Ok(link) => Ok(Some(link)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("open", path, source)),
    }
}

fn remove(path: &Path) -> Result<(), KernelError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, error)),
        _ => Ok(()),
    }
}

fn failed(action: &str, path: &Path, source: io::Error) -> KernelError {
    KernelError::system(format!("{action} {}", path.display()), source)
}
