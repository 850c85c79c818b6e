//! Programs of other versions: what an agent with another layout of the maps, or other sizes, left in force.
//!
//! They go on capturing until every pod that they capture is captured by this version's programs. Nothing is known of their
//! maps but that `PODS` has the cookie of a pod's network namespace as its key, in every version.

use super::{
    KernelError,
    links::Links,
    load,
    names::Name,
    pins::{Pin, failed},
    sys,
};
use std::{
    fs,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

/// Another version, by its folder of pins.
pub(super) struct OtherVersion {
    folder: PathBuf,
    links: Links,
}

/// All that have pins below `base`, except the one in `own`.
pub(super) fn others(base: &Path, own: &Path) -> Result<Vec<OtherVersion>, KernelError> {
    let reading = |source| failed("read", base, source);
    let mut others = Vec::new();
    let entries = match fs::read_dir(base) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(others),
        entries => entries.map_err(reading)?,
    };
    for entry in entries {
        let entry = entry.map_err(reading)?;
        let is_version = entry.file_name().to_string_lossy().starts_with(load::VERSION_FOLDER);
        if is_version && entry.path() != own {
            others.push(OtherVersion {
                links: Links::open(entry.path().join("links"))?,
                folder: entry.path(),
            });
        }
    }
    Ok(others)
}

impl OtherVersion {
    /// Whether it captures the pod with this cookie.
    pub(super) fn captures(&self, cookie: u64) -> Result<bool, KernelError> {
        self.links.has_pod(cookie)
    }

    /// The cgroups of the proxies that it knows.
    pub(super) fn proxies(&self) -> Result<Vec<u64>, KernelError> {
        self.links.proxies()
    }

    /// Ends its capture of what a pod opens.
    pub(super) fn withdraw_outbound(&self, cookie: u64) -> Result<(), KernelError> {
        let path = self.folder.join(load::MAPS_FOLDER).join("PODS");
        match Pin::open(path.clone())? {
            Some(map) => {
                sys::map_delete(map.as_fd(), cookie).map_err(|source| failed("remove a pod from", &path, source))
            }
            None => Ok(()),
        }
    }

    /// Ends its capture of a pod.
    pub(super) fn withdraw(&mut self, cookie: u64) -> Result<(), KernelError> {
        self.withdraw_outbound(cookie)?;
        for guard in self.links.guards_of(cookie)? {
            self.links.detach(Name::Guard(guard))?;
        }
        self.links.detach(Name::Pod(cookie))
    }

    /// Gives its socket option programs' places to `links`, where that has none; see [`Links::take_over_sockopts`].
    pub(super) fn hand_over<'a>(
        &self,
        links: &mut Links,
        program: impl Fn(Name) -> Result<BorrowedFd<'a>, KernelError>,
    ) -> Result<(), KernelError> {
        let taken = links.take_over_sockopts(&self.links, program)?;
        if taken > 0 {
            tracing::info!(taken, from = %self.folder.display(), "took over socket option programs of another version");
        }
        Ok(())
    }

    /// Ends all that it does, and removes its pins.
    pub(super) fn remove(mut self) -> Result<(), KernelError> {
        self.links.detach_all()?;
        fs::remove_dir_all(&self.folder).map_err(|source| failed("remove the pins in", &self.folder, source))?;
        tracing::info!(pins = %self.folder.display(), "removed the programs of another version");
        Ok(())
    }
}
