//! What containers print, followed with `kubectl logs --follow` into files.

use anyhow::{Context, Result};
use culvert_cluster::Cluster;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

/// Logs of some containers, from their first line on; dropping it ends the following.
pub(super) struct Logs {
    files: Vec<PathBuf>,
    followers: Vec<Child>,
}

impl Logs {
    /// Follows a container of each of these pods.
    pub(super) fn follow<'a>(
        cluster: &Cluster,
        namespace: &str,
        pods: impl IntoIterator<Item = &'a str>,
        container: &str,
    ) -> Result<Self> {
        let folder = cluster.folder().join("followed");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut logs = Self {
            files: Vec::new(),
            followers: Vec::new(),
        };
        for pod in pods {
            let path = folder.join(format!("{pod}.log"));
            let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
            let mut kubectl = cluster.kubectl();
            kubectl.args([
                "logs",
                "--follow",
                "--namespace",
                namespace,
                "--container",
                container,
                pod,
            ]);
            let follower = kubectl.stdout(file).stderr(Stdio::null()).spawn();
            logs.followers.push(follower.context("start kubectl logs")?);
            logs.files.push(path);
        }
        Ok(logs)
    }

    /// The files, in the order of the pods.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }

    /// All that was printed, one text for each pod.
    pub(super) fn texts(&self) -> Vec<String> {
        self.files.iter().map(|path| text(path)).collect()
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        for follower in &mut self.followers {
            // One that has ended by itself is as good.
            let _ended = follower.kill();
            let _status = follower.wait();
        }
    }
}

fn text(path: &Path) -> String {
    fs::read(path).map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}
