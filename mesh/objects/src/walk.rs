//! Finds the files of a directory, without reading them.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Deeper folders are refused; a cycle of symbolic links ends here at the latest.
const MAX_DEPTH: usize = 32;

/// One look at the directory.
pub(crate) struct Walk {
    /// Files that count.
    pub(crate) found: BTreeMap<PathBuf, Stamp>,
    /// Folders that could not be listed and links that lead nowhere, and why.
    pub(crate) errors: BTreeMap<PathBuf, String>,
    /// Folders by device and inode, so that links do not lead in circles.
    visited: HashSet<(u64, u64)>,
}

impl Walk {
    /// Looks at everything below `root`.
    pub(crate) fn through(root: &Path) -> Self {
        let mut walk = Self {
            found: BTreeMap::new(),
            errors: BTreeMap::new(),
            visited: HashSet::new(),
        };
        walk.folder(root, 0);
        walk
    }

    fn folder(&mut self, path: &Path, depth: usize) {
        if depth > MAX_DEPTH {
            self.errors
                .insert(path.to_owned(), format!("more than {MAX_DEPTH} folders deep"));
            return;
        }
        let entries = fs::metadata(path).and_then(|metadata| {
            let fresh = self.visited.insert((metadata.dev(), metadata.ino()));
            if fresh {
                fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()
            } else {
                Ok(Vec::new())
            }
        });
        let mut entries = match entries {
            Ok(entries) => entries,
            // Removed between two calls: the next look tells.
            Err(error) if error.kind() == io::ErrorKind::NotFound && depth > 0 => return,
            Err(error) => {
                self.errors
                    .insert(path.to_owned(), format!("cannot be listed: {error}"));
                return;
            }
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            if is_hidden(&path) {
                continue;
            }
            // Follows symbolic links.
            let metadata = match fs::metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) => {
                    // What was removed between two calls is told by the next look. Other links may lead to anything.
                    if has_objects(&path) && fs::symlink_metadata(&path).is_ok_and(|link| link.is_symlink()) {
                        self.errors
                            .insert(path, format!("is a link that leads nowhere: {error}"));
                    }
                    continue;
                }
            };
            if metadata.is_dir() {
                self.folder(&path, depth + 1);
            } else if metadata.is_file() && has_objects(&path) {
                self.found.insert(path, Stamp::of(&metadata));
            }
        }
    }
}

/// What a file is like that a look at `root` would find, if it is one and no link leads to it.
pub(crate) fn look_at(root: &Path, path: &Path) -> Option<Stamp> {
    let below = path.strip_prefix(root).ok()?;
    let folders = below.ancestors().filter(|folder| !folder.as_os_str().is_empty());
    if !has_objects(path) || folders.clone().any(is_hidden) || folders.count() > MAX_DEPTH {
        return None;
    }
    let metadata = fs::symlink_metadata(path).ok()?;
    metadata.is_file().then(|| Stamp::of(&metadata))
}

fn has_objects(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}

/// Whether a file or folder of this path is passed over.
pub(crate) fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    /// Bytes.
    pub(crate) size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}
