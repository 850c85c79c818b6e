//! The programs of a node, and how they are, as its process 1 notes it for the outside.

use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// In the node's folder: the machine's id of the node's process 1.
pub(crate) const INIT_RECORD: &str = "init.pid";

/// A program that runs on every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// Runs containers.
    Containerd,
    /// Runs pods.
    Kubelet,
    /// Carries Services' addresses.
    KubeProxy,
}

impl Component {
    /// Every component, in the order in which they start.
    pub const ALL: [Self; 3] = [Self::Containerd, Self::Kubelet, Self::KubeProxy];

    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
        }
    }
}

/// How a node is, as its process 1 sees it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Status {
    /// How often in a row each component ended soon after its start, without having been told to.
    pub(crate) failures: BTreeMap<Component, u32>,
    /// How each component ended last, if it did.
    pub(crate) ends: BTreeMap<Component, String>,
    /// Image archives that are still to be imported.
    pub(crate) images_left: usize,
    /// Image archives that containerd refused.
    pub(crate) images_failed: Vec<PathBuf>,
}

impl Status {
    /// Where a node's status is.
    pub(crate) fn file(folder: &Path) -> PathBuf {
        folder.join("status.json")
    }
}
