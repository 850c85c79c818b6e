//! Files that are replaced in one step, on a file system that others write to as well.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

/// The longest configuration, in bytes. CNIs' own are a few thousand.
const MAX_TEXT: usize = 1 << 20;

/// Begins the names of drafts. Neither it nor its extension makes anybody take one for a configuration or a plug-in.
const DRAFT: &str = ".culvert-draft-";

/// The files of a folder, sorted by name, byte by byte, as Go sorts them; symbolic links count as what they lead to.
///
/// # Errors
/// From the file system.
pub fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // A link that leads nowhere is listed: whoever reads it fails as we do.
        let is_folder = fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file());
        let name = path.file_name().map(|name| name.to_string_lossy().starts_with(DRAFT));
        if !is_folder && name == Some(false) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// A configuration's text. A symbolic link may lead out of what is mounted here (NixOS, snaps): it is followed below the node's
/// own root, `host_root`, then.
///
/// # Errors
/// From the file system; it is too long, or no text.
pub fn read(path: &Path, host_root: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    let file = File::open(path).or_else(|error| match fs::read_link(path) {
        Ok(target) if target.is_absolute() => File::open(host_root.join(target.strip_prefix("/").unwrap_or(&target))),
        _ => Err(error),
    })?;
    file.take(MAX_TEXT as u64 + 1).read_to_end(&mut text)?;
    if text.len() > MAX_TEXT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than 1 MiB"));
    }
    String::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Its permissions.
///
/// # Errors
/// From the file system.
pub fn mode_of(path: &Path) -> io::Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o7777)
}

/// Puts a file in place, whatever was there. After a power cut there is the old one or the new one.
///
/// # Errors
/// From the file system.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let draft = draft(path, content, mode)?;
    fs::rename(&draft, path).inspect_err(|_| drop(fs::remove_file(&draft)))?;
    sync_folder(path)
}

/// Puts `after` in the place of `before`. When somebody else has written the file meanwhile, theirs stays.
///
/// # Errors
/// From the file system, or `Interrupted` when it was written meanwhile.
pub fn exchange(path: &Path, before: &[u8], after: &[u8]) -> io::Result<()> {
    // Behind a symbolic link is the file that is meant; a rename would replace the link.
    let path = &fs::canonicalize(path)?;
    let draft = draft(path, after, mode_of(path)?)?;
    let exchanged = match renameat_with(CWD, &draft, CWD, path, RenameFlags::EXCHANGE) {
        // This file system cannot: then there is a moment in which a write of somebody else's is lost.
        Err(Errno::INVAL | Errno::NOSYS) => return fs::rename(&draft, path).and_then(|()| sync_folder(path)),
        exchanged => exchanged,
    };
    let outcome = exchanged.map_err(io::Error::from).and_then(|()| {
        // What was there is the draft now.
        if fs::read(&draft)? == before {
            return sync_folder(path);
        }
        fs::rename(&draft, path)?;
        Err(io::Error::new(
            io::ErrorKind::Interrupted,
            "it was written meanwhile; trying again",
        ))
    });
    let _ = fs::remove_file(&draft);
    outcome
}

/// Writes a draft beside `path`.
fn draft(path: &Path, content: &[u8], mode: u32) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!("{DRAFT}{name}.tmp"));
    let _ = fs::remove_file(&draft);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&draft)
        .and_then(|mut file| {
            // Whatever the umask took away.
            file.set_permissions(Permissions::from_mode(mode))?;
            file.write_all(content)?;
            file.sync_all()
        });
    written.inspect_err(|_| drop(fs::remove_file(&draft)))?;
    Ok(draft)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}
