//! Distributions of Kubernetes that keep the container runtime's socket and the CNI's folders elsewhere than most.

use crate::HostPaths;
use culvert_objects::DISTRIBUTIONS;

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
        let mut known = DISTRIBUTIONS.iter();
        let found = known.find(|one| one.platform == Some(self.name()));
        found.map_or_else(HostPaths::default, HostPaths::of)
    }
}

#[cfg(test)]
mod tests {
    use super::Platform;
    use crate::{HostPaths, Values, manifests};
    use culvert_objects::DISTRIBUTIONS;

    #[test]
    fn each_platform_is_a_distribution_that_is_known() {
        let of = |name: &str| {
            DISTRIBUTIONS
                .iter()
                .find(|one| one.platform == Some(name))
                .map(HostPaths::of)
        };
        for platform in Platform::ALL {
            assert_eq!(of(platform.name()), Some(platform.host_paths()), "{}", platform.name());
        }
        let named = DISTRIBUTIONS.iter().filter(|one| one.platform.is_some());
        assert_eq!(named.count(), Platform::ALL.len());
        assert_eq!(Platform::Standard.host_paths(), HostPaths::default());
    }

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
