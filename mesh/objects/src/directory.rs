//! A directory of files, read again and again, with the last good state of each.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::allocator::{Allocator, Defaults};
use crate::document::{self, Fault};
use crate::finding::{Finding, Findings};
use crate::kinds::Objects;
use crate::merge::{self, Merged};
use crate::severity::Severity;
use crate::walk::{self, Stamp, Walk};

/// How long a file must stay as it is before it is read, so that half a write is not taken for the whole.
pub(crate) const SETTLE: Duration = Duration::from_millis(80);
/// The same for an empty file: most are about to be written, by somebody who first cut them short.
const SETTLE_EMPTY: Duration = Duration::from_millis(500);
/// How long one busy file can hold back the others.
const PATIENCE: Duration = Duration::from_secs(3);
/// Larger files are refused.
const MAX_FILE: u64 = 16 << 20;
/// The directory cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the configuration directory {path}")]
pub struct OpenError {
    path: PathBuf,
    source: io::Error,
}

/// All objects of the directory and all that is wrong with it, at one moment.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The objects that are in force.
    pub objects: Objects,
    /// What is wrong, ordered by file and document.
    pub findings: Findings,
    /// Counts the changes, from 1.
    pub generation: u64,
}

/// A directory of `*.yaml`, `*.yml` and `*.json` files, folders below included. Names that begin with a dot are skipped:
/// editors' files, and the folders behind the symbolic links of a mounted ConfigMap.
#[derive(Debug)]
pub struct Directory {
    pub(crate) root: PathBuf,
    defaults: Defaults,
    allocator: Allocator,
    files: BTreeMap<PathBuf, File>,
    merged: Merged,
    /// Files that look different from what was read, and since when they look like this.
    unsettled: HashMap<PathBuf, (Option<Stamp>, Instant)>,
    unsettled_since: Option<Instant>,
    /// When a file was last read without waiting.
    taken: Option<Instant>,
    /// Folders that could not be listed, and why.
    unlistable: BTreeMap<PathBuf, String>,
    loaded: Arc<Loaded>,
}

#[derive(Debug, Default)]
struct File {
    stamp: Option<Stamp>,
    /// Whether there was ever a state without fault to go back to.
    was_good: bool,
    faults: Vec<Fault>,
    /// Said of documents that nobody reads.
    unread: Vec<Fault>,
}

/// What a look at the directory came to.
pub(crate) enum Scan {
    /// Something is being written: look again after [`SETTLE`].
    Unsettled,
    /// All is read.
    Settled,
}

impl Directory {
    /// Reads the directory at `path` for the first time, with the defaults of no cluster in particular.
    ///
    /// # Errors
    /// When `path` itself cannot be listed. What is wrong with the files in it is in [`Loaded::findings`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        Self::open_with(path, Defaults::default())
    }

    /// Like [`Directory::open`], with the defaults of a cluster.
    ///
    /// # Errors
    /// As [`Directory::open`].
    pub fn open_with(path: impl Into<PathBuf>, defaults: Defaults) -> Result<Self, OpenError> {
        let root = path.into();
        fs::read_dir(&root).map_err(|source| OpenError {
            path: root.clone(),
            source,
        })?;
        let mut directory = Self {
            root,
            defaults,
            allocator: Allocator::default(),
            files: BTreeMap::new(),
            merged: Merged::new(),
            unsettled: HashMap::new(),
            unsettled_since: None,
            taken: None,
            unlistable: BTreeMap::new(),
            loaded: Arc::default(),
        };
        let found = directory.list();
        for (path, stamp) in &found {
            directory.read(path, *stamp);
            // Files that were just being written are read once more when they have settled.
            directory.unsettled.insert(path.clone(), (None, Instant::now()));
        }
        directory.publish();
        Ok(directory)
    }

    /// What was read last.
    pub fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded)
    }

    /// Reads every file again, at once, for callers that know that nobody is writing.
    pub fn reload(&mut self) -> Arc<Loaded> {
        let found = self.list();
        let gone = |path: &PathBuf| !found.contains_key(path) && !self.is_hidden_by_error(path);
        let gone: Vec<PathBuf> = self.files.keys().filter(|path| gone(path)).cloned().collect();
        for path in gone {
            self.forget(&path);
        }
        for (path, stamp) in &found {
            self.read(path, *stamp);
        }
        self.publish();
        self.loaded()
    }

    /// Reads files at once that were renamed into their places: they are whole. False: not all of that is so, or something else
    /// moves or has just moved, and all that does is applied together by [`Directory::scan`].
    pub(crate) fn take(&mut self, placed: &BTreeSet<PathBuf>) -> bool {
        let now = Instant::now();
        let is_alone = self.unsettled.is_empty() && self.taken.is_none_or(|at| now.duration_since(at) >= SETTLE);
        let looks = placed.iter().map(|path| Some((path, walk::look_at(&self.root, path)?)));
        let looks: Option<Vec<_>> = looks.collect();
        let Some(looks) = looks.filter(|_| is_alone) else {
            return false;
        };
        for (path, stamp) in looks {
            if self.files.get(path).and_then(|file| file.stamp) != Some(stamp) {
                self.read(path, stamp);
            }
        }
        self.taken = Some(now);
        self.publish();
        true
    }

    /// Looks for changes, and applies them once nothing moves any more. `busy` holds files that somebody is known to be
    /// writing to.
    pub(crate) fn scan(&mut self, busy: &HashSet<PathBuf>) -> Scan {
        let now = Instant::now();
        let found = self.list();
        let mut waiting: HashMap<PathBuf, (Option<Stamp>, Instant)> = HashMap::new();
        let gone = self
            .files
            .keys()
            .filter(|path| !found.contains_key(*path) && !self.is_hidden_by_error(path));
        let looks = found
            .iter()
            .map(|(path, stamp)| (path, Some(*stamp)))
            .chain(gone.map(|path| (path, None)));
        for (path, stamp) in looks {
            let known = self.files.get(path).and_then(|file| file.stamp);
            let before = self.unsettled.get(path);
            if known == stamp && before.is_none() && self.files.contains_key(path) {
                continue;
            }
            // A file read at the first look is not in `files` with a stamp that can be trusted: see `open_with`.
            let since = match before {
                Some((Some(seen), since)) if Some(*seen) == stamp => *since,
                Some((None, since)) if stamp.is_none() || known == stamp => *since,
                _ => now,
            };
            waiting.insert(path.clone(), (stamp, since));
        }
        self.unsettled = waiting;
        if self.unsettled.is_empty() {
            self.unsettled_since = None;
            if self.unlistable_changed() {
                self.publish();
            }
            return Scan::Settled;
        }
        let began = *self.unsettled_since.get_or_insert(now);
        let patient = now.duration_since(began) < PATIENCE;
        let settled = |path: &Path, stamp: Option<Stamp>, since: Instant| {
            let settle = if stamp.is_some_and(|stamp| stamp.size == 0) {
                SETTLE_EMPTY
            } else {
                SETTLE
            };
            now.duration_since(since) >= settle && !(patient && busy.contains(path))
        };
        let looks = self.unsettled.iter();
        let ready = looks.filter(|(path, (stamp, since))| settled(path, *stamp, *since));
        let ready: Vec<(PathBuf, Option<Stamp>)> = ready.map(|(path, (stamp, _))| (path.clone(), *stamp)).collect();
        let all = ready.len() == self.unsettled.len();
        if !all && patient {
            return Scan::Unsettled;
        }
        for (path, stamp) in ready {
            self.unsettled.remove(&path);
            match stamp {
                Some(stamp) => self.read(&path, stamp),
                None => self.forget(&path),
            }
        }
        self.publish();
        self.unsettled_since = (!all).then_some(now);
        if all { Scan::Settled } else { Scan::Unsettled }
    }

    /// All files that count, with their stamps. Folders that cannot be listed are remembered.
    fn list(&mut self) -> BTreeMap<PathBuf, Stamp> {
        let walk = Walk::through(&self.root);
        self.unlistable = walk.errors;
        walk.found
    }

    fn is_hidden_by_error(&self, path: &Path) -> bool {
        self.unlistable.keys().any(|folder| path.starts_with(folder))
    }

    fn unlistable_changed(&self) -> bool {
        let reported = self
            .loaded
            .findings
            .keys()
            .filter(|f| f.document == 0 && f.line.is_none());
        let reported: BTreeSet<&PathBuf> = reported.map(|f| &f.file).collect();
        // Of files that were read it says the same that one cannot be read.
        let is_mended = |path: &&PathBuf| !self.files.contains_key(*path) && !self.unlistable.contains_key(*path);
        self.unlistable.keys().any(|path| !reported.contains(path)) || reported.iter().any(is_mended)
    }

    /// Reads one file. What is wrong with it leaves its last good state in force.
    fn read(&mut self, path: &Path, stamp: Stamp) {
        let file = self.files.entry(path.to_owned()).or_default();
        file.stamp = Some(stamp);
        let text = match read_text(path) {
            Ok(text) => text,
            Err(message) => {
                file.faults = vec![Fault {
                    number: 0,
                    line: 0,
                    object: None,
                    field: None,
                    message,
                }];
                return;
            }
        };
        let json = path.extension().is_some_and(|e| e == "json");
        let parsed = document::parse(&text, json);
        file.was_good |= parsed.faults.is_empty();
        if parsed.faults.is_empty() || !file.was_good {
            self.merged.set(path, parsed.documents);
        }
        file.faults = parsed.faults;
        file.unread = parsed.unread;
    }

    fn forget(&mut self, path: &Path) {
        self.files.remove(path);
        self.merged.remove(path);
    }

    /// Merges all files into a new snapshot, unless nothing changed.
    fn publish(&mut self) {
        let (mut objects, mut findings) = self.merged.settle();
        self.allocator.fill(&self.defaults, &mut objects);
        let objects = merge::reuse(&objects, &self.loaded.objects);
        for (path, file) in &self.files {
            let holds = if file.was_good {
                "the file's last good state stays in force"
            } else {
                "this document does not count"
            };
            let faults = file.faults.iter().map(|fault| Finding {
                message: format!("{} ({holds})", fault.message),
                ..fault.finding(path)
            });
            let unread = file.unread.iter().map(|fault| fault.finding(path));
            findings.extend(faults.chain(unread).map(|finding| (Arc::new(finding), ())));
        }
        let unlistable = self.unlistable.iter().map(|(path, message)| Finding {
            file: path.clone(),
            document: 0,
            line: None,
            object: None,
            field: None,
            message: format!("{message} (what was read from it before stays in force)"),
            severity: Severity::Error,
        });
        findings.extend(unlistable.map(|finding| (Arc::new(finding), ())));
        if self.loaded.generation > 0 && findings == self.loaded.findings && objects.is_same(&self.loaded.objects) {
            return;
        }
        let generation = self.loaded.generation + 1;
        self.loaded = Arc::new(Loaded {
            objects,
            findings,
            generation,
        });
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let cannot = |error: io::Error| format!("cannot be read: {error}");
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(cannot)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("larger than {} MiB", MAX_FILE >> 20));
    }
    String::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))
}

#[cfg(test)]
mod tests;
