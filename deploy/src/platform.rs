//! Distributions of Kubernetes that keep the container runtime's socket and the CNI's folders elsewhere than most.

use crate::HostPaths;

/// A distribution, by what it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Platform {
    /// Folders where most have them: kubeadm, kind, minikube, EKS, AKS, RKE2 with a CNI of its own choice.
    Standard,
    /// k3s with its own CNI.
    K3s,
    /// MicroK8s.
    Microk8s,
    /// Google Kubernetes Engine.
    Gke,
    /// OpenShift: CRI-O, and Multus before every other CNI.
    Openshift,
}

impl Platform {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Standard, Self::K3s, Self::Microk8s, Self::Gke, Self::Openshift];

    /// As given on a command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::K3s => "k3s",
            Self::Microk8s => "microk8s",
            Self::Gke => "gke",
            Self::Openshift => "openshift",
        }
    }

    /// Where its nodes keep what Culvert reaches for.
    #[must_use]
    pub fn host_paths(self) -> HostPaths {
        let paths = |runtime: &str, cni_bin: &str, cni_conf: &str| HostPaths {
            runtime: runtime.to_owned(),
            cni_bin: cni_bin.to_owned(),
            cni_conf: cni_conf.to_owned(),
        };
        match self {
            Self::Standard => HostPaths::default(),
            Self::K3s => paths(
                "/run/k3s/containerd",
                "/var/lib/rancher/k3s/data/cni",
                "/var/lib/rancher/k3s/agent/etc/cni/net.d",
            ),
            Self::Microk8s => paths(
                "/var/snap/microk8s/common/run",
                "/var/snap/microk8s/current/opt/cni/bin",
                "/var/snap/microk8s/current/args/cni-network",
            ),
            Self::Gke => paths("/run/containerd", "/home/kubernetes/bin", "/etc/cni/net.d"),
            Self::Openshift => paths("/run/crio", "/var/lib/cni/bin", "/etc/kubernetes/cni/net.d"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Platform;
    use crate::{Values, manifests};

    #[test]
    fn the_folders_of_each_platform_are_mounted_where_the_programs_look() {
        for platform in Platform::ALL {
            let values = Values {
                host_paths: platform.host_paths(),
                ..Values::default()
            };
            let text: String = manifests(&values).unwrap().iter().map(ToString::to_string).collect();
            for path in [
                &values.host_paths.runtime,
                &values.host_paths.cni_bin,
                &values.host_paths.cni_conf,
            ] {
                assert!(text.contains(&format!("path: {path}\n")), "{}: {path}", platform.name());
            }
            assert!(text.contains("mountPath: /run/containerd\n") && text.contains("mountPath: /opt/cni/bin\n"));
        }
    }
}
