//! Pins: files on a bpffs that keep links and maps alive when this process has ended.

use super::{KernelError, sys};
use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

/// A link or map that this process holds open, and the file that it is pinned as.
///
/// While this process lives, the object depends on no file: a clean-up script that removes the pin changes nothing that is
/// in force, and [`Pin::restore`] brings the file back.
#[derive(Debug)]
pub(super) struct Pin {
    object: OwnedFd,
    path: PathBuf,
}

impl Pin {
    /// Pins an object, over what the file may name now.
    pub(super) fn make(object: OwnedFd, path: PathBuf) -> Result<Self, KernelError> {
        remove(&path)?;
        let pin = Self { object, path };
        pin.write()?;
        Ok(pin)
    }

    /// Opens what is pinned; none when the file is not there.
    pub(super) fn open(path: PathBuf) -> Result<Option<Self>, KernelError> {
        Ok(open(&path)?.map(|object| Self { object, path }))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file name this object again if it does not. True when that was needed.
    pub(super) fn restore(&self) -> Result<bool, KernelError> {
        let id = |object: BorrowedFd<'_>| sys::id(object).map_err(|source| failed("look at", &self.path, source));
        if let Some(found) = open(&self.path)?
            && id(found.as_fd())? == id(self.as_fd())?
        {
            return Ok(false);
        }
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(|source| failed("make", folder, source))?;
        }
        remove(&self.path)?;
        self.write()?;
        Ok(true)
    }

    /// Removes the file. The object goes with the last that holds it.
    pub(super) fn unpin(self) -> Result<(), KernelError> {
        remove(&self.path)
    }

    fn write(&self) -> Result<(), KernelError> {
        sys::pin(self.as_fd(), &self.path).map_err(|source| failed("pin", &self.path, source))
    }
}

impl AsFd for Pin {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.object.as_fd()
    }
}

/// What a file names; none when it is not there.
fn open(path: &Path) -> Result<Option<OwnedFd>, KernelError> {
    match sys::open_pin(path) {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("open", path, source)),
    }
}

/// One that is not there is no error.
pub(super) fn remove(path: &Path) -> Result<(), KernelError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, error)),
        _ => Ok(()),
    }
}

pub(super) fn failed(action: &str, path: &Path, source: io::Error) -> KernelError {
    KernelError::system(format!("{action} {}", path.display()), source)
}
