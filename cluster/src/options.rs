//! What cluster is wanted.

use crate::Error;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

/// What cluster is wanted, and where its programs are.
#[derive(Debug, Clone)]
pub struct Options {
    /// Tells clusters apart that are up at the same time: 1 to 16 of `a-z`, `0-9` and `-`.
    pub name: String,
    /// How many nodes; with none there is a control plane alone.
    pub nodes: u8,
    /// Image archives that every node imports before the cluster counts as up.
    pub images: Vec<PathBuf>,
    /// The folder with the programs `kube` and `coredns`.
    pub programs: PathBuf,
    /// The folder below which each cluster has a folder of its name.
    pub state: PathBuf,
    /// The program `culvert-cluster`; beside it is `culvert-pause`.
    pub launcher: PathBuf,
    /// IPv6 beside IPv4, for nodes, pods and services.
    pub dual_stack: bool,
    /// Leaves what is there when bringing up fails, instead of taking it down.
    pub keep: bool,
    /// Bringing up gives up soon after this becomes true.
    pub interrupted: Arc<AtomicBool>,
}

impl Options {
    /// A cluster of this name with everything in its usual place in cargo's target folder, in which the running program
    /// is too: `cluster/bin`, `cluster/<name>`, `debug/culvert-cluster`.
    ///
    /// # Errors
    /// The program `culvert-cluster` is not there.
    pub fn new(name: &str, nodes: u8) -> Result<Self, Error> {
        let launcher = launcher()?;
        let target = launcher.ancestors().nth(2).unwrap_or(Path::new("target"));
        Ok(Self {
            name: name.to_owned(),
            nodes,
            images: Vec::new(),
            programs: target.join("cluster/bin"),
            state: target.join("cluster"),
            launcher,
            dual_stack: false,
            keep: false,
            interrupted: Arc::default(),
        })
    }

    /// Adds every image archive (`*.tar`) of a folder; a folder that is not there has none.
    #[must_use]
    pub fn images_of(mut self, folder: &Path) -> Self {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let tars = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "tar"));
        self.images.extend(tars);
        self.images.sort();
        self
    }
}

/// The program `culvert-cluster`: this one, or beside it, or (for a test) one folder up.
fn launcher() -> Result<PathBuf, Error> {
    const NAME: &str = "culvert-cluster";
    let this = std::env::current_exe().unwrap_or_default();
    let found = this
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(NAME))
        .find(|path| path.is_file());
    found.ok_or_else(|| Error::Missing {
        path: this.with_file_name(NAME),
        remedy: "build it with `cargo build --package culvert-cluster`",
    })
}
