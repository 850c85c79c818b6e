//! Who is looked for, and what was found at a path.

use std::{os::unix::fs::MetadataExt as _, path::Path};

/// A pod whose network namespace is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sought {
    /// Its uid, as the container runtime knows it.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What was at a path, to be compared with what is there later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    identity: Option<(u64, u64)>,
}

impl Seen {
    /// Looks.
    pub fn at(path: &Path) -> Self {
        let metadata = std::fs::metadata(path).ok();
        Self {
            identity: metadata.map(|metadata| (metadata.dev(), metadata.ino())),
        }
    }

    /// Whether there was anything.
    pub fn is_there(&self) -> bool {
        self.identity.is_some()
    }
}
