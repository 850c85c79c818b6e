//! Where a cluster keeps what, and what its namespaces and groups are called.

use crate::{Error, network, pki::Pki};
use std::path::{Path, PathBuf};

/// Names and paths of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    name: String,
    folder: PathBuf,
}

impl Layout {
    /// `state` is the folder of all clusters.
    pub(crate) fn new(state: &Path, name: &str) -> Result<Self, Error> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let usable = (1..=16).contains(&name.len()) && name.chars().all(allowed) && !matches!(name, "bin" | "images");
        if !usable {
            return Err(Error::Name(name.to_owned()));
        }
        // Every process of the cluster has another current folder than the caller.
        let state = std::path::absolute(state).unwrap_or_else(|_| state.to_path_buf());
        Ok(Self {
            name: name.to_owned(),
            folder: state.join(name),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.folder.join("cluster.json")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    pub(crate) fn pki(&self) -> Pki {
        Pki::at(self.folder.join("pki"))
    }

    pub(crate) fn control_plane(&self) -> PathBuf {
        self.folder.join("control-plane")
    }

    pub(crate) fn control_plane_log(&self, component: &str) -> PathBuf {
        self.control_plane().join(format!("{component}.log"))
    }

    /// Where a started process is remembered.
    pub(crate) fn process_record(&self, process: &str) -> PathBuf {
        self.folder.join(format!("{process}.pid"))
    }

    pub(crate) fn node(&self, number: u8) -> PathBuf {
        self.folder.join(format!("node{number}"))
    }

    /// What the names of all this cluster's namespaces and groups begin with. A name that is the beginning of another
    /// one followed by a dash is told apart by [`owns`](Self::owns).
    pub(crate) fn prefix(&self) -> String {
        format!("cv-{}-", self.name)
    }

    /// Whether a namespace or group is this cluster's.
    pub(crate) fn owns(&self, name: &str) -> bool {
        let Some(rest) = name.strip_prefix(&self.prefix()) else {
            return false;
        };
        rest == "cp"
            || rest
                .strip_prefix('n')
                .is_some_and(|number| number.parse::<u8>().is_ok())
    }

    pub(crate) fn control_plane_group(&self) -> String {
        format!("{}cp", self.prefix())
    }

    pub(crate) fn node_group(&self, number: u8) -> String {
        format!("{}n{number}", self.prefix())
    }

    pub(crate) fn control_plane_netns(&self) -> PathBuf {
        network::path(&self.control_plane_group())
    }

    pub(crate) fn node_netns(&self, number: u8) -> PathBuf {
        network::path(&self.node_group(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_does_not_own_what_belongs_to_one_with_a_longer_name() {
        let layout = Layout::new(Path::new("/tmp"), "a").unwrap();
        assert!(layout.owns("cv-a-cp") && layout.owns("cv-a-n1"));
        for other in ["cv-a-n-cp", "cv-a-b-n1", "cv-ab-cp", "cv-a-", "cv-a-node"] {
            assert!(!layout.owns(other), "{other}");
        }
    }

    #[test]
    fn a_name_that_would_leave_the_folder_is_refused() {
        for bad in ["", "..", "a/b", "A", "bin", "images", "seventeen-letters"] {
            assert!(Layout::new(Path::new("/tmp"), bad).is_err(), "{bad}");
        }
    }
}
