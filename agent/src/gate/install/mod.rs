//! Putting the plug-in into the node's CNI configuration, and keeping it there.
//!
//! The configuration belongs to the cluster's CNI, whose own installer writes it when it likes. So this is no step that
//! is done once: a thread looks whenever a folder changes, and every two seconds, and [`look`] puts right what is not.
//!
//! | what is found | what is done |
//! |---|---|
//! | a list (`*.conflist`) in force, without the plug-in | its entry is appended to `plugins`; every other byte stays |
//! | with the plug-in's entry, anywhere but first | nothing: others who chain themselves at the end may follow |
//! | a single configuration (`*.conf`, `*.json`) in force | a list with it and the entry is written beside it, under a name that sorts before |
//! | that list, and another configuration in force | the list is deleted |
//! | a file that does not parse | it is left alone; the first that parses is taken, as CRI-O does. containerd stops at it, so it is told |
//! | no configuration | waiting |
//!
//! In force is the first file by name that ends in `.conf`, `.conflist` or `.json`, as container runtimes have it.
//! They notice changes by themselves.

pub mod conflist;
pub mod files;
mod keeper;
mod program;

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use self::conflist::Malformed;
use super::GateArgs;

pub use self::keeper::keep;

/// Lists that we made of a single configuration end like this. `-` sorts before `.`, so `10-a-culvert.conflist` comes
/// before `10-a.conf`.
const DERIVED: &str = "-culvert.conflist";

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Places {
    /// Container runtimes' plug-ins.
    pub bin_dir: PathBuf,
    /// Container runtimes' CNI configurations.
    pub conf_dir: PathBuf,
    /// The plug-in's program in the agent's image.
    pub plugin: PathBuf,
    /// The agent's socket.
    pub socket: PathBuf,
    /// The file with the enrolled namespaces.
    pub state: PathBuf,
}

/// Whether the plug-in is in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The configuration that it stands in.
    pub configuration: Option<PathBuf>,
    /// What is wrong; may be something although the plug-in is in place.
    pub problem: Option<String>,
}

/// The problem that is none: it was to be removed, and is.
const REMOVED: &str = "the CNI plug-in was removed: the node leaves the mesh";

/// A step could not be taken.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}", path.display())]
pub struct InstallError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What is there cannot be removed. What could be is removed nevertheless.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(|error| format!("{error}: {}", error.source)).collect::<Vec<_>>().join("; "))]
pub struct RemoveError(Vec<InstallError>);

/// A file that could be in force.
struct Candidate {
    path: PathBuf,
    text: Result<String, String>,
}

/// What one look remembers for the next.
#[derive(Debug, Default)]
pub struct Memory {
    program: program::Memory,
}

impl Places {
    /// As the command line says.
    pub fn of(args: &GateArgs) -> Self {
        Self {
            bin_dir: args.cni_bin_dir.clone(),
            conf_dir: args.cni_conf_dir.clone(),
            plugin: args.cni_plugin.clone(),
            socket: args.cni_socket.clone(),
            state: args.cni_state.clone(),
        }
    }

    /// The plug-in's entry in `plugins`.
    pub fn entry(&self) -> String {
        conflist::entry(&self.socket, &self.state)
    }
}

impl Standing {
    /// It stands in the configuration that is in force.
    pub fn is_installed(&self) -> bool {
        self.configuration.is_some()
    }

    /// It was to be removed, and is.
    pub fn is_removed(&self) -> bool {
        self.problem.as_deref() == Some(REMOVED)
    }

    /// Why new pods start without waiting for the mesh; none when they wait.
    pub fn problem(&self) -> Option<String> {
        if self.is_installed() {
            return None;
        }
        let problem = self.problem.clone();
        Some(problem.unwrap_or_else(|| "the CNI plug-in is not installed yet".to_owned()))
    }
}

/// Looks once, and puts right what is not. Writes nothing when all is right.
pub fn look(places: &Places, memory: &mut Memory) -> Standing {
    match try_look(places, memory) {
        Ok(standing) => standing,
        Err(error) => Standing {
            configuration: None,
            problem: Some(format!("{error}: {}", error.source)),
        },
    }
}

fn try_look(places: &Places, memory: &mut Memory) -> Result<Standing, InstallError> {
    // The program first: an entry without it would keep every pod from starting.
    program::place(&places.plugin, &places.bin_dir, &mut memory.program)?;
    let (candidates, derived) = candidates(&places.conf_dir)?;
    let mut problem = None;
    let mut configuration = None;
    for candidate in &candidates {
        match settle(candidate, &places.entry()) {
            Ok(path) => {
                configuration = Some(path?);
                break;
            }
            Err(reason) => {
                let file = candidate.path.display();
                problem.get_or_insert_with(|| {
                    format!("{file} is no CNI configuration: {reason}. containerd stops at it, and pods do not start")
                });
            }
        }
    }
    // What has no original in force any more; after the one in force is written, so that there is always one.
    for path in derived.iter().filter(|path| Some(*path) != configuration.as_ref()) {
        fs::remove_file(path).map_err(step("cannot delete", path))?;
        tracing::info!(file = %path.display(), "a list made of a CNI configuration that is not in force any more is deleted");
    }
    if configuration.is_none() && problem.is_none() {
        let folder = places.conf_dir.display();
        problem = Some(format!(
            "{folder} has no CNI configuration yet: waiting for the node's CNI to write one"
        ));
    }
    Ok(Standing { configuration, problem })
}

/// Makes a configuration contain the entry; the path is that of the file in force then. The outer error is why it is no
/// configuration.
fn settle(candidate: &Candidate, entry: &str) -> Result<Result<PathBuf, InstallError>, String> {
    let path = &candidate.path;
    let text = candidate.text.as_ref().map_err(String::clone)?;
    let refuse = |malformed: Malformed| malformed.to_string();
    if is_list(path) {
        return Ok(match conflist::with_entry(text, entry).map_err(refuse)? {
            None => Ok(path.clone()),
            Some(wanted) => files::exchange(path, text.as_bytes(), wanted.as_bytes())
                .map_err(step("cannot write", path))
                .map(|()| {
                    tracing::info!(file = %path.display(), "the CNI plug-in stands in the node's CNI configuration");
                    path.clone()
                }),
        });
    }
    let wanted = conflist::from_single(text, entry).map_err(refuse)?;
    let derived = derived_of(path);
    if fs::read(&derived).is_ok_and(|present| present == wanted.as_bytes()) {
        return Ok(Ok(derived));
    }
    Ok(files::replace(&derived, wanted.as_bytes(), files::mode_of(path).unwrap_or(0o644))
        .map_err(step("cannot write", &derived))
        .map(|()| {
            tracing::info!(file = %derived.display(), of = %path.display(), "the CNI plug-in stands in a list of its own");
            derived
        }))
}

/// Takes the plug-in out again: its entry, the program, and what it decides by. A list is afterwards what it was to the
/// byte, unless somebody else has rewritten it. Goes on after a failure.
///
/// # Errors
/// Something could not be removed.
pub fn remove(places: &Places) -> Result<(), RemoveError> {
    let mut errors = Vec::new();
    match files::list(&places.conf_dir) {
        Ok(paths) => errors.extend(paths.iter().filter_map(|path| withdraw(path).err())),
        Err(source) if source.kind() == io::ErrorKind::NotFound => {}
        Err(source) => errors.push(step("cannot list", &places.conf_dir)(source)),
    }
    // A configuration that still names the program needs it.
    if errors.is_empty() {
        for path in [program::path_in(&places.bin_dir), places.state.clone()] {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    errors.push(step("cannot delete", &path)(source));
                }
                _ => {}
            }
        }
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(RemoveError(errors)),
    }
}

/// Takes the entry out of one file. Also of those that are not in force: a CNI may have put its configuration aside with
/// the entry in it.
fn withdraw(path: &Path) -> Result<(), InstallError> {
    if is_derived(path) {
        return fs::remove_file(path).map_err(step("cannot delete", path));
    }
    let Ok(text) = files::read(path) else { return Ok(()) };
    match conflist::without_entry(&text) {
        Ok(Some(without)) => {
            files::exchange(path, text.as_bytes(), without.as_bytes()).map_err(step("cannot write", path))?;
            tracing::info!(file = %path.display(), "the CNI plug-in is taken out of the node's CNI configuration");
            Ok(())
        }
        // Nothing of ours can be in what does not parse.
        Ok(None) | Err(_) => Ok(()),
    }
}

/// The files that could be in force, in their order, and the lists that we have made.
fn candidates(conf_dir: &Path) -> Result<(Vec<Candidate>, Vec<PathBuf>), InstallError> {
    let mut candidates = Vec::new();
    let mut derived = Vec::new();
    for path in files::list(conf_dir).map_err(step("cannot list", conf_dir))? {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if !matches!(extension, Some("conf" | "conflist" | "json")) {
            continue;
        }
        if is_derived(&path) {
            derived.push(path);
            continue;
        }
        let text = files::read(&path).map_err(|error| error.to_string());
        candidates.push(Candidate { path, text });
    }
    Ok((candidates, derived))
}

fn is_list(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "conflist")
}

/// Whether we made it: by its name, and because it contains our entry.
fn is_derived(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.ends_with(DERIVED) && files::read(path).is_ok_and(|text| matches!(conflist::without_entry(&text), Ok(Some(_))))
}

fn derived_of(path: &Path) -> PathBuf {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    path.with_file_name(format!("{stem}{DERIVED}"))
}

fn step(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_path_buf();
    move |source| InstallError { what, path, source }
}
