//! What is known about a cluster from the moment that anything of it exists, in its state folder.

use crate::{Error, error::Doing};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A cluster as it was asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) nodes: u8,
    pub(crate) dual_stack: bool,
    /// Folder of Kubernetes' programs.
    pub(crate) programs: PathBuf,
    /// The program `culvert-cluster`.
    pub(crate) launcher: PathBuf,
    /// On the machine's loopback, for the API server.
    pub(crate) port: u16,
}

/// Reads a JSON file of ours.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs::read(path).doing(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).map_err(|source| Error::Record {
        path: path.to_path_buf(),
        source,
    })
}

/// Writes a JSON file of ours, so that a reader sees the old one or the new one.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(value).map_err(|source| Error::Record {
        path: path.to_path_buf(),
        source,
    })?;
    let unfinished = path.with_extension("tmp");
    fs::write(&unfinished, text)
        .and_then(|()| fs::rename(&unfinished, path))
        .doing(|| format!("write {}", path.display()))
}
