//! Whether an agent will ever come back to this node, asked when none answers.
//!
//! Culvert may have been removed while the node was off or out of reach: nobody took the plug-in out here then, and pods of
//! enrolled namespaces would wait for ever. An agent that merely fails, or is being replaced, must be waited for however long it
//! takes. The two are told apart by what the kubelet keeps of the agent's pod: its folder of logs is there before the pod
//! starts, outlives reboots, and is deleted a minute or so after the API server no longer knows the pod.
//!
//! Without any such folder for [`GRACE`], counted from the first pod that waited, the mesh is gone from this node. When the kubelet's folders
//! cannot be read, nothing is known, and pods wait.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// For how long there must be no pod of the mesh on the node.
pub const GRACE: Duration = Duration::from_secs(300);

/// How the names of the agent's pods begin.
const PODS: &str = "culvert-node-";

/// Where it is written down since when there has been none, beside the agent's socket: gone after a reboot.
pub fn path_beside(socket: &Path) -> PathBuf {
    socket.with_file_name("unattended")
}

/// What is known of the agent's pod on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mesh {
    /// The kubelet has it, or this cannot be told.
    Expected,
    /// The kubelet has none, for this long.
    Missing(Duration),
    /// The kubelet has had none for [`GRACE`].
    Gone,
}

/// Looks, and writes down since when there has been no pod of the mesh.
pub fn look(socket: &Path, pod_logs: &Path, system_namespace: &str) -> Mesh {
    let marker = path_beside(socket);
    let Ok(false) = has_pod(pod_logs, system_namespace) else {
        let _ = fs::remove_file(&marker);
        return Mesh::Expected;
    };
    match missing_for(&marker) {
        Ok(time) if time >= GRACE => Mesh::Gone,
        Ok(time) => Mesh::Missing(time),
        // It cannot be written down: then it would never be over.
        Err(_) => Mesh::Expected,
    }
}

/// The kubelet names a folder `NAMESPACE_POD_UID`.
fn has_pod(pod_logs: &Path, system_namespace: &str) -> io::Result<bool> {
    let prefix = format!("{system_namespace}_{PODS}");
    for entry in fs::read_dir(pod_logs)? {
        if entry?.file_name().to_string_lossy().starts_with(&prefix) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn missing_for(marker: &Path) -> io::Result<Duration> {
    let now = uptime()?;
    let since: Option<u64> = fs::read_to_string(marker)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    // A later one is from before a reboot.
    if let Some(since) = since.filter(|since| *since <= now) {
        return Ok(Duration::from_secs(now - since));
    }
    if let Some(folder) = marker.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(marker, now.to_string())?;
    Ok(Duration::ZERO)
}

/// Seconds since the node started: no change of its clock disturbs them.
fn uptime() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/uptime")?;
    let seconds = text.split('.').next().and_then(|seconds| seconds.parse().ok());
    seconds.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/uptime does not begin with a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Node(tempfile::TempDir);

    impl Node {
        fn new() -> Self {
            let node = Self(tempfile::tempdir().expect("folder"));
            fs::create_dir_all(node.logs()).expect("folder");
            node
        }

        fn logs(&self) -> PathBuf {
            self.0.path().join("pods")
        }

        fn socket(&self) -> PathBuf {
            self.0.path().join("run/cni.sock")
        }

        fn look(&self) -> Mesh {
            look(&self.socket(), &self.logs(), "culvert-system")
        }

        /// As if nobody had been there for so long.
        fn since(&self, age: Duration) {
            let since = uptime().expect("uptime").saturating_sub(age.as_secs());
            fs::create_dir_all(self.socket().parent().expect("parent")).expect("folder");
            fs::write(path_beside(&self.socket()), since.to_string()).expect("write");
        }
    }

    #[test]
    fn an_agent_whose_pod_the_kubelet_has_is_waited_for_however_long_it_takes() {
        let node = Node::new();
        fs::create_dir(node.logs().join("culvert-system_culvert-node-x7_u-1")).expect("folder");
        node.since(GRACE * 100);
        assert_eq!(node.look(), Mesh::Expected);
        assert!(!path_beside(&node.socket()).exists(), "the time begins anew");
    }

    #[test]
    fn a_node_without_a_pod_of_the_mesh_waits_for_a_while_and_no_longer() {
        let node = Node::new();
        fs::create_dir(node.logs().join("shop_culvert-node-x7_u-1")).expect("somebody else's pod");
        assert_eq!(node.look(), Mesh::Missing(Duration::ZERO));
        assert!(matches!(node.look(), Mesh::Missing(_)));
        node.since(GRACE - Duration::from_secs(60));
        assert!(matches!(node.look(), Mesh::Missing(_)));
        if uptime().expect("uptime") > GRACE.as_secs() {
            node.since(GRACE);
            assert_eq!(node.look(), Mesh::Gone);
        }
    }

    #[test]
    fn what_cannot_be_told_is_waited_for() {
        let node = Node::new();
        fs::remove_dir(node.logs()).expect("remove");
        node.since(GRACE);
        assert_eq!(node.look(), Mesh::Expected);
        let node = Node::new();
        // From before a reboot.
        fs::create_dir_all(node.socket().parent().expect("parent")).expect("folder");
        fs::write(path_beside(&node.socket()), u64::MAX.to_string()).expect("write");
        assert_eq!(node.look(), Mesh::Missing(Duration::ZERO));
    }
}
