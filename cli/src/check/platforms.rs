//! Distributions of Kubernetes that keep the container runtime's socket or the CNI's folders elsewhere than most, or that
//! want something else set: recognised by what their nodes report.

use crate::line::Line;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;

/// What a distribution needs to be told.
#[derive(Debug)]
struct Platform {
    name: &'static str,
    /// Whether a node is of it.
    is: fn(&Node) -> bool,
    /// What to set.
    advice: &'static str,
}

const PLATFORMS: [Platform; 6] = [
    Platform {
        name: "k3s or RKE2",
        is: |node| version(node).contains("+k3s") || version(node).contains("+rke2"),
        advice: "the runtime's socket is in /run/k3s/containerd; k3s' own CNI keeps its configuration in \
                 /var/lib/rancher/k3s/agent/etc/cni/net.d and its plug-ins in /var/lib/rancher/k3s/data/cni: --platform k3s (RKE2 \
                 with a CNI of its own choice keeps /etc/cni/net.d and /opt/cni/bin: set only --host-runtime)",
    },
    Platform {
        name: "MicroK8s",
        is: |node| node.labels().keys().any(|key| key.starts_with("microk8s.io/")),
        advice: "its folders are below /var/snap/microk8s: --platform microk8s",
    },
    Platform {
        name: "GKE",
        is: |node| node.labels().keys().any(|key| key.starts_with("cloud.google.com/gke-")),
        advice: "CNI plug-ins are in /home/kubernetes/bin: --platform gke; its priority classes are rationed, which the manifests' \
                 ResourceQuota answers",
    },
    Platform {
        name: "OpenShift",
        is: |node| node.labels().keys().any(|key| key.starts_with("node.openshift.io/")),
        advice: "plug-ins are in /var/lib/cni/bin and configurations in /etc/kubernetes/cni/net.d: --platform openshift --selinux; and \
                 `oc adm policy add-scc-to-user privileged -n culvert-system -z culvert-node`",
    },
    Platform {
        name: "Bottlerocket",
        is: |node| os_image(node).contains("bottlerocket"),
        advice: "its nodes enforce SELinux: --selinux",
    },
    Platform {
        name: "Talos",
        is: |node| os_image(node).contains("talos"),
        advice: "its root is read-only: see that /opt/cni/bin and /etc/cni/net.d are writable for a DaemonSet (they are by default)",
    },
];

/// A line for each that is recognised.
pub(super) fn judged(nodes: &[Node]) -> Vec<Line> {
    let here = PLATFORMS.iter().filter(|platform| nodes.iter().any(platform.is));
    here.map(|platform| Line::warn("cluster", "platform", platform.name, platform.advice))
        .collect()
}

fn version(node: &Node) -> &str {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    info.map_or("", |info| info.kubelet_version.as_str())
}

fn os_image(node: &Node) -> String {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    info.map_or_else(String::new, |info| info.os_image.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::{PLATFORMS, judged};
    use culvert_objects::DISTRIBUTIONS;
    use serde_json::{from_value, json};

    #[test]
    fn advice_names_the_folders_that_the_platform_sets() {
        for platform in &PLATFORMS {
            let Some(rest) = platform.advice.split("--platform ").nth(1) else {
                continue;
            };
            let name: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
            let of = DISTRIBUTIONS
                .iter()
                .find(|one| one.platform == Some(&name))
                .expect(&name);
            // Those of the usual place are named as what stays where it is.
            let known = [of, &DISTRIBUTIONS[0]]
                .map(|one| [one.conf_dir, one.bin_dir, one.runtime])
                .concat();
            let words = platform.advice.split_whitespace().filter(|word| word.starts_with('/'));
            for folder in words.map(|word| word.trim_end_matches([':', ';', ')'])) {
                assert!(
                    known.iter().any(|one| one.starts_with(folder)),
                    "{}: {folder}",
                    platform.name
                );
            }
        }
    }

    #[test]
    fn distributions_with_folders_of_their_own_are_recognised_with_what_to_set() {
        let node = |label: &str, kubelet: &str, image: &str| {
            let info = json!({ "operatingSystem": "linux", "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "",
                "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": kubelet, "machineID": "", "osImage": image,
                "systemUUID": "" });
            from_value(json!({ "metadata": { "name": "n", "labels": { label: "x" } }, "status": { "nodeInfo": info } }))
                .unwrap()
        };
        let advice = |node| {
            judged(&[node])
                .into_iter()
                .map(|line| line.remedy.unwrap())
                .collect::<String>()
        };
        assert!(advice(node("a", "v1.34.1+k3s1", "")).contains("--platform k3s"));
        assert!(advice(node("microk8s.io/cluster", "v1.34.1", "")).contains("--platform microk8s"));
        assert!(advice(node("cloud.google.com/gke-nodepool", "v1.34.1-gke.1", "")).contains("--platform gke"));
        assert!(advice(node("node.openshift.io/os_id", "v1.34.1", "")).contains("privileged"));
        assert!(advice(node("a", "v1.34.1", "Bottlerocket OS 1.40")).contains("--selinux"));
        assert_eq!(advice(node("kubernetes.io/os", "v1.34.1", "Debian GNU/Linux 13")), "");
    }
}
