//! Writing down which namespaces are enrolled, for the plug-in to decide by while no agent answers.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use culvert_cni::state::State;
use tokio::{sync::watch, task::spawn_blocking, time::sleep};

use super::install::files;

/// How long to wait after a write that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// What an earlier agent wrote down; nothing when there is none, or it cannot be read.
pub fn known(path: &Path) -> BTreeSet<String> {
    match State::load(path) {
        Ok(state) => state.unwrap_or_default().namespaces,
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "what the CNI plug-in decides by is damaged; it is written anew");
            BTreeSet::new()
        }
    }
}

/// Writes the file when what is enrolled has changed, until there is nobody left to change it.
pub async fn write_changes(path: PathBuf, mut enrolled: watch::Receiver<BTreeSet<String>>) {
    while enrolled.changed().await.is_ok() {
        let namespaces = enrolled.borrow_and_update().clone();
        let (file, count) = (path.clone(), namespaces.len());
        let written = spawn_blocking(move || write(&file, namespaces)).await;
        match written.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => tracing::debug!(namespaces = count, "enrolled namespaces written down"),
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "cannot write down which namespaces are enrolled");
                enrolled.mark_changed();
                sleep(AGAIN).await;
            }
        }
    }
}

fn write(path: &Path, namespaces: BTreeSet<String>) -> io::Result<()> {
    let text = State { namespaces }.json();
    if fs::read(path).is_ok_and(|present| present == text.as_bytes()) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    files::replace(path, text.as_bytes(), 0o600)
}
