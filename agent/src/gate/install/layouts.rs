//! Where Kubernetes distributions keep CNI plug-ins and configurations, and whether a folder is the one in which the
//! node's container runtime looks.
//!
//! An entry whose program the runtime does not find keeps every pod of the node from starting, the agent's successor included.
//! The runtime's own configuration is not ours to read; but where the other programs that the node's CNI configuration names
//! are, there it looks.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Folders of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What it is called.
    pub name: &'static str,
    /// Where the container runtime looks for CNI configurations.
    pub conf_dir: &'static str,
    /// Where it looks for their programs.
    pub bin_dir: &'static str,
}

/// Those that are known, the most usual first. `docs/install.md` has them as settings.
pub const LAYOUTS: [Layout; 10] = [
    Layout {
        name: "upstream (kubeadm, kind, minikube, EKS, AKS, RKE2, Talos)",
        conf_dir: "/etc/cni/net.d",
        bin_dir: "/opt/cni/bin",
    },
    Layout {
        name: "GKE",
        conf_dir: "/etc/cni/net.d",
        bin_dir: "/home/kubernetes/bin",
    },
    Layout {
        name: "k3s",
        conf_dir: "/var/lib/rancher/k3s/agent/etc/cni/net.d",
        bin_dir: "/var/lib/rancher/k3s/data/cni",
    },
    Layout {
        name: "k3s before 1.31",
        conf_dir: "/var/lib/rancher/k3s/agent/etc/cni/net.d",
        bin_dir: "/var/lib/rancher/k3s/data/current/bin",
    },
    Layout {
        name: "k3d",
        conf_dir: "/var/lib/rancher/k3s/agent/etc/cni/net.d",
        bin_dir: "/bin",
    },
    Layout {
        name: "MicroK8s",
        conf_dir: "/var/snap/microk8s/current/args/cni-network",
        bin_dir: "/var/snap/microk8s/current/opt/cni/bin",
    },
    Layout {
        name: "OpenShift",
        conf_dir: "/etc/kubernetes/cni/net.d",
        bin_dir: "/var/lib/cni/bin",
    },
    Layout {
        name: "CRI-O packages",
        conf_dir: "/etc/cni/net.d",
        bin_dir: "/usr/libexec/cni",
    },
    Layout {
        name: "Debian's packages",
        conf_dir: "/etc/cni/net.d",
        bin_dir: "/usr/lib/cni",
    },
    Layout {
        name: "Canonical Kubernetes",
        conf_dir: "/etc/cni/net.d",
        bin_dir: "/var/snap/k8s/common/opt/cni/bin",
    },
];

/// Those of `programs` that a folder does not hold. A symbolic link counts: what it leads to may be outside of what is mounted.
pub(super) fn missing(bin_dir: &Path, programs: &[String]) -> Vec<String> {
    let is_missing = |program: &&String| {
        let path = bin_dir.join(program);
        !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() || metadata.is_symlink())
    };
    programs.iter().filter(is_missing).cloned().collect()
}

/// The layout whose folder holds all of `programs` on the node, whose root is `host_root`.
pub(super) fn holding(host_root: &Path, programs: &[String]) -> Option<Layout> {
    let holds = |layout: &&Layout| missing(&below(host_root, layout.bin_dir), programs).is_empty();
    LAYOUTS.iter().find(holds).copied()
}

/// The layout that has configurations on the node, when `conf_dir` as mounted has none.
pub(super) fn configured(host_root: &Path) -> Option<Layout> {
    let has_some = |layout: &&Layout| {
        let files = super::files::list(&below(host_root, layout.conf_dir)).unwrap_or_default();
        files.iter().any(|path| super::folder::is_configuration(path))
    };
    LAYOUTS.iter().find(has_some).copied()
}

fn below(host_root: &Path, folder: &str) -> PathBuf {
    host_root.join(folder.trim_start_matches('/'))
}
