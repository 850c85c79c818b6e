//! Where Kubernetes distributions keep what Culvert reaches for on a node. The agent looks here for the folders that a runtime
//! uses, the manifests take them from here, and `docs/install.md` shows them.

/// Folders of a distribution, as absolute paths on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// What it is called.
    pub name: &'static str,
    /// The value of `culvert install --platform` that sets these folders, where there is one.
    pub platform: Option<&'static str>,
    /// Where the container runtime looks for CNI configurations.
    pub conf_dir: &'static str,
    /// Where it looks for their programs.
    pub bin_dir: &'static str,
    /// Where its CRI socket is.
    pub runtime: &'static str,
}

/// Those that are known, the most usual first. They are from the distributions' documentation and sources.
pub const DISTRIBUTIONS: [Distribution; 10] = [
    Distribution {
        name: "upstream (kubeadm, kind, minikube, EKS, AKS, RKE2, Talos)",
        platform: Some("standard"),
        conf_dir: "/etc/cni/net.d",
        bin_dir: "/opt/cni/bin",
        runtime: "/run/containerd",
    },
    Distribution {
        name: "GKE",
        platform: Some("gke"),
        conf_dir: "/etc/cni/net.d",
        bin_dir: "/home/kubernetes/bin",
        runtime: "/run/containerd",
    },
    Distribution {
        name: "k3s",
        platform: Some("k3s"),
        conf_dir: "/var/lib/rancher/k3s/agent/etc/cni/net.d",
        bin_dir: "/var/lib/rancher/k3s/data/cni",
        runtime: "/run/k3s/containerd",
    },
    Distribution {
        name: "k3s before 1.31",
        platform: None,
        conf_dir: "/var/lib/rancher/k3s/agent/etc/cni/net.d",
        bin_dir: "/var/lib/rancher/k3s/data/current/bin",
        runtime: "/run/k3s/containerd",
    },
    Distribution {
        name: "k3d",
        platform: None,
        conf_dir: "/var/lib/rancher/k3s/agent/etc/cni/net.d",
        bin_dir: "/bin",
        runtime: "/run/k3s/containerd",
    },
    Distribution {
        name: "MicroK8s",
        platform: Some("microk8s"),
        conf_dir: "/var/snap/microk8s/current/args/cni-network",
        bin_dir: "/var/snap/microk8s/current/opt/cni/bin",
        runtime: "/var/snap/microk8s/common/run",
    },
    Distribution {
        name: "OpenShift",
        platform: Some("openshift"),
        conf_dir: "/etc/kubernetes/cni/net.d",
        bin_dir: "/var/lib/cni/bin",
        runtime: "/run/crio",
    },
    Distribution {
        name: "CRI-O packages",
        platform: None,
        conf_dir: "/etc/cni/net.d",
        bin_dir: "/usr/libexec/cni",
        runtime: "/run/crio",
    },
    Distribution {
        name: "Debian's packages",
        platform: None,
        conf_dir: "/etc/cni/net.d",
        bin_dir: "/usr/lib/cni",
        runtime: "/run/containerd",
    },
    Distribution {
        name: "Canonical Kubernetes",
        platform: None,
        conf_dir: "/etc/cni/net.d",
        bin_dir: "/var/snap/k8s/common/opt/cni/bin",
        runtime: "/run/containerd",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    #[test]
    fn the_installation_page_has_each_distribution_with_its_folders() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/install.md");
        let page = fs::read_to_string(path).expect("docs/install.md");
        let table = page.split("## Folders of distributions").nth(1).expect("the section");
        let rows = table.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
        let rows: Vec<&str> = rows.take_while(|line| line.starts_with('|')).collect();
        let row = |one: &Distribution| {
            let Distribution {
                name,
                platform,
                conf_dir,
                bin_dir,
                runtime,
            } = one;
            let platform = platform.map(|platform| format!("`{platform}`")).unwrap_or_default();
            format!("| {name} | `{conf_dir}` | `{bin_dir}` | `{runtime}` | {platform} |").replace("|  |", "| |")
        };
        assert_eq!(rows, DISTRIBUTIONS.each_ref().map(row));
    }

    #[test]
    fn folders_are_absolute_and_no_two_distributions_are_the_same() {
        for (index, one) in DISTRIBUTIONS.iter().enumerate() {
            for folder in [one.conf_dir, one.bin_dir, one.runtime] {
                assert!(folder.starts_with('/') && !folder.ends_with('/'), "{folder}");
            }
            let others = &DISTRIBUTIONS[index + 1..];
            assert!(
                others
                    .iter()
                    .all(|other| (other.conf_dir, other.bin_dir) != (one.conf_dir, one.bin_dir)
                        && (one.platform.is_none() || other.platform != one.platform)),
                "{}",
                one.name
            );
        }
    }
}
