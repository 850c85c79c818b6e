//! Taking out of a node what [`super::look`] has put there.

use std::{fs, io, path::Path};

use super::{
    InstallError, Places, RemoveError, conflist, files,
    folder::{Candidate, Folder},
    meta, program, step,
};

/// Takes the plug-in out again: our list, what was edited in other configurations, the program, and what it decides by. Other
/// programs' lists are afterwards what they were to the byte. Goes on after a failure.
///
/// # Errors
/// Something could not be removed.
pub fn remove(places: &Places) -> Result<(), RemoveError> {
    let mut errors = Vec::new();
    match Folder::read(&places.conf_dir, &places.host_root) {
        Ok(folder) => errors.extend(entries(places, &folder).err().unwrap_or_default()),
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
        Err(error) => errors.push(error),
    }
    // A configuration that still names the program needs it.
    if errors.is_empty() {
        let unattended = culvert_cni::unattended::path_beside(&places.socket);
        for path in [program::path_in(&places.bin_dir), places.state.clone(), unattended] {
            errors.extend(delete(&path).err());
        }
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(RemoveError(errors)),
    }
}

/// The configurations' part of it. What was edited first: what a list of ours is named in must not lead nowhere.
pub(super) fn entries(places: &Places, folder: &Folder) -> Result<(), Vec<InstallError>> {
    let mut errors = Vec::new();
    for other in &folder.others {
        errors.extend(entry_of(other, folder, &places.host_root).err());
    }
    if errors.is_empty() {
        for path in folder.ours.iter().chain(&folder.put_aside) {
            match delete(path) {
                Ok(()) => tracing::info!(file = %path.display(), "the CNI plug-in's own list is deleted"),
                Err(error) => errors.push(error),
            }
        }
    }
    // A CNI may have put its configuration aside with an entry of ours in it.
    for path in files::list(&places.conf_dir).unwrap_or_default() {
        if !folder.others.iter().any(|other| other.path == path) {
            errors.extend(withdraw(&path, &places.host_root).err());
        }
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(errors),
    }
}

/// Takes what is ours out of another program's configuration, in force or not.
pub(super) fn entry_of(other: &Candidate, folder: &Folder, host_root: &Path) -> Result<(), InstallError> {
    if let Ok(text) = &other.text
        && let Some(without) = meta::without_gate(text, |own| folder.original(own, Candidate::is_eligible))
    {
        return edit(&other.path, text, &without);
    }
    withdraw(&other.path, host_root)
}

fn withdraw(path: &Path, host_root: &Path) -> Result<(), InstallError> {
    let Ok(text) = files::read(path, host_root) else {
        return Ok(());
    };
    match conflist::without_entry(&text) {
        Ok(Some(without)) => edit(path, &text, &without),
        // Nothing of ours can be in what does not parse.
        Ok(None) | Err(_) => Ok(()),
    }
}

fn edit(path: &Path, text: &str, without: &str) -> Result<(), InstallError> {
    files::exchange(path, text.as_bytes(), without.as_bytes()).map_err(step("cannot write", path))?;
    tracing::info!(file = %path.display(), "the CNI plug-in is taken out of the node's CNI configuration");
    Ok(())
}

fn delete(path: &Path) -> Result<(), InstallError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(step("cannot delete", path)(source)),
        _ => Ok(()),
    }
}
