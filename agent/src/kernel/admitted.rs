//! A proxy that is left alone, and answered.

use std::path::PathBuf;

/// A proxy's cgroup.
pub(super) struct Admitted {
    pub(super) id: u64,
    /// Absent for one that an earlier agent admitted.
    pub(super) path: Option<PathBuf>,
}

impl Admitted {
    pub(super) fn earlier(id: u64) -> Self {
        Self { id, path: None }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.path.as_ref().is_none_or(|path| !path.exists())
    }
}
