//! Putting the plug-in into the node's CNI configuration, and keeping it there.
//!
//! The configuration belongs to the cluster's CNI, whose own installer writes it when it likes: flannel, Calico, kindnet and Cilium
//! at each boot, before any agent runs. So the plug-in stands in a list of our own, `00-culvert.conflist`, which container
//! runtimes take first, and which is made of the configuration that they would take without it. That one stays as it is. A thread
//! looks whenever a folder changes, and every two seconds, and [`look`] puts right what is not.
//!
//! | what is found | what is done |
//! |---|---|
//! | a list or a single configuration | our list is made of it, with the entry last, and follows its changes |
//! | plug-ins that others chained to our list | they stay, behind the entry |
//! | Multus and its like | the gate goes into what they delegate to; see [`meta`] |
//! | a program that the configuration names is not in `--cni-bin-dir` | nothing is written: the runtime looks elsewhere; see [`layouts`] |
//! | our list is taken away again and again, as Cilium does | after five times, waiting; see [`contest`] |
//! | the original does not parse at the moment | our list stays as it was |
//! | the original is gone | our list goes, or is made of the next one |
//! | no configuration | waiting |
//!
//! In force is the first file by name that ends in `.conf`, `.conflist` or `.json` and parses, or that of the network which
//! `--cni-network` names. Container runtimes notice changes by themselves.

pub mod conflist;
mod contest;
pub mod files;
mod folder;
mod keeper;
pub mod layouts;
mod look;
mod meta;
mod program;
mod remove;

#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
};

use super::args::GateArgs;

pub use self::{
    keeper::keep,
    look::{Memory, look},
    remove::remove,
};

/// The node's own root, since the agent shares the node's process ids.
const HOST_ROOT: &str = "/proc/1/root";

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
    /// The network that the container runtime is set to take; none where it takes the first by file name.
    pub network: Option<String>,
    /// The node's root as seen from here, for symbolic links and for folders that are not mounted.
    pub host_root: PathBuf,
}

/// Whether the plug-in is in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The configuration that it stands in.
    pub configuration: Option<PathBuf>,
    /// The one that this was made of.
    pub original: Option<PathBuf>,
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

impl Places {
    /// As the command line says.
    pub fn of(args: &GateArgs) -> Self {
        Self {
            bin_dir: args.cni_bin_dir.clone(),
            conf_dir: args.cni_conf_dir.clone(),
            plugin: args.cni_plugin.clone(),
            socket: args.cni_socket.clone(),
            state: args.cni_state.clone(),
            network: args.cni_network.clone(),
            host_root: HOST_ROOT.into(),
        }
    }

    /// The plug-in's entry in `plugins`.
    pub fn entry(&self) -> String {
        conflist::entry(&self.socket, &self.state)
    }

    /// The same folders of a node whose root is mounted at `root`. What the entry says stays: it is read on the node.
    #[must_use]
    pub fn below(mut self, root: &Path) -> Self {
        for path in [&mut self.bin_dir, &mut self.conf_dir, &mut self.socket, &mut self.state] {
            *path = root.join(path.strip_prefix("/").unwrap_or(path));
        }
        self.host_root = root.to_path_buf();
        self
    }
}

impl Standing {
    fn wrong(problem: String) -> Self {
        Self {
            configuration: None,
            original: None,
            problem: Some(problem),
        }
    }

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

/// Whether the plug-in could be installed here, without changing anything: its program can be read, and the folders can be listed.
///
/// # Errors
/// What could not be done.
pub fn check(places: &Places) -> Result<(), InstallError> {
    std::fs::File::open(&places.plugin).map_err(step("cannot read the CNI plug-in's program", &places.plugin))?;
    for folder in [&places.bin_dir, &places.conf_dir] {
        std::fs::read_dir(folder).map_err(step("cannot list", folder))?;
    }
    Ok(())
}

fn step(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_path_buf();
    move |source| InstallError { what, path, source }
}
