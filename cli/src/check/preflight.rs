//! Whether a cluster can take Culvert, as far as its API server knows.

use super::{other_meshes, permissions, platforms};
use crate::{
    cluster::{Cluster, Failure, list, names},
    failed_create,
    foreign::{ForeignPolicies, PolicyFlags, When},
    line::Line,
};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    apps::v1::DaemonSet,
    core::v1::{ConfigMap, Event, Namespace, Node, Pod},
    networking::v1::NetworkPolicy,
};
use kube::{Api, ResourceExt, api::ListParams};

/// The oldest kernel aimed at.
const KERNEL: (u32, u32) = (5, 15);
/// The oldest API server: server-side apply and token projection are older, native sidecars and ServiceCIDRs are not needed.
const API_SERVER: (u32, u32) = (1, 27);
/// How many minor versions a kubelet may be behind its API server.
const SKEW: u32 = 3;

#[derive(Debug, Default)]
struct Facts {
    version: String,
    /// `None`: they may not be listed.
    nodes: Option<Vec<Node>>,
    namespaces: Vec<Namespace>,
    webhooks: Vec<String>,
    /// Names and images of all DaemonSets.
    daemon_sets: Vec<DaemonSet>,
    policies: Vec<NetworkPolicy>,
    permissions: Vec<permissions::Permission>,
    /// Cilium's, where it is.
    cilium: Option<ConfigMap>,
    pods: Vec<Pod>,
    foreign: ForeignPolicies,
    /// Warnings in our own namespace, when it is there already.
    warnings: Vec<Event>,
    policy_flags: PolicyFlags,
}

/// Gathers the facts and judges them.
pub(crate) async fn preflight(cluster: &Cluster, policy_flags: PolicyFlags) -> Result<Vec<Line>, Failure> {
    let all = ListParams::default();
    let permissions = permissions::asked(cluster).await?;
    // What may not be read has a line among the permissions, if it is needed, or else is told as far as it is known.
    let nodes: Option<Vec<Node>> = list(&cluster.all(), &all, "").await.ok();
    let namespaces: Vec<Namespace> = list(&cluster.all(), &all, "").await.unwrap_or_default();
    let webhooks: Vec<MutatingWebhookConfiguration> = list(&cluster.all(), &all, "").await.unwrap_or_default();
    let daemon_sets: Vec<DaemonSet> = list(&cluster.all(), &all, "").await.unwrap_or_default();
    let policies: Api<NetworkPolicy> = cluster.ours();
    let cilium: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "kube-system");
    let warnings = ListParams::default().fields("type=Warning");
    let facts = Facts {
        version: cluster.version.clone(),
        nodes,
        namespaces,
        webhooks: webhooks.iter().map(ResourceExt::name_any).collect(),
        daemon_sets,
        policies: list(&policies, &all, "").await.unwrap_or_default(),
        permissions,
        cilium: cilium.get_opt("cilium-config").await.ok().flatten(),
        pods: list(&cluster.all(), &all, "").await.unwrap_or_default(),
        foreign: ForeignPolicies::of(cluster).await,
        warnings: list(&cluster.ours(), &warnings, "").await.unwrap_or_default(),
        policy_flags,
    };
    Ok(facts.judged())
}

impl Facts {
    fn judged(&self) -> Vec<Line> {
        let mut lines = vec![api_server(&self.version)];
        lines.extend(permissions::judged(&self.permissions));
        lines.extend(self.system_namespace());
        lines.extend(self.not_made());
        lines.extend(other_meshes::meshes(&self.namespaces, &self.webhooks));
        lines.extend(other_meshes::cni(&self.daemon_sets, self.cilium.as_ref()));
        lines.extend(
            self.foreign
                .judged(&self.namespaces, &self.pods, self.policy_flags, When::Preflight),
        );
        lines.extend(platforms::judged(self.nodes.as_deref().unwrap_or_default()));
        if self.nodes.as_ref().is_some_and(Vec::is_empty) {
            let remedy = "none is needed to install; agents start when nodes join";
            lines.push(Line::warn("cluster", "nodes", "the cluster has no node", remedy));
        }
        for node in self.nodes.iter().flatten() {
            lines.extend(judged_node(node, &self.version));
        }
        lines
    }

    /// Why an earlier installation has no pods. The ResourceQuota of the manifests may be what it lacked.
    fn not_made(&self) -> Option<Line> {
        let why = failed_create::of_nodes(&self.warnings).or_else(|| failed_create::of_controllers(&self.warnings))?;
        let remedy = "`culvert install` applies what this version's manifests have, a ResourceQuota for its priority classes among it";
        Some(Line::warn("cluster", "pods not made", why, remedy))
    }

    /// Pod security and network policies of our own namespace, when it is there already.
    fn system_namespace(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        let ours = self.namespaces.iter().find(|one| one.name_any() == names::NAMESPACE);
        let enforced = ours.and_then(|ours| ours.labels().get("pod-security.kubernetes.io/enforce"));
        lines.push(match (ours, enforced.map(String::as_str)) {
            (None, _) => Line::ok(
                "cluster",
                "pod security",
                "culvert-system will be made, with level privileged",
            ),
            (Some(_), Some("privileged") | None) => {
                Line::ok("cluster", "pod security", "culvert-system allows what agents need")
            }
            (Some(_), Some(level)) => Line::warn(
                "cluster",
                "pod security",
                format!("culvert-system enforces {level}, under which agents cannot start"),
                "installing sets it to privileged; see that nothing sets it back",
            ),
        });
        let foreign: Vec<String> = self
            .policies
            .iter()
            .filter(|policy| {
                policy
                    .labels()
                    .get("app.kubernetes.io/part-of")
                    .is_none_or(|part| part != "culvert")
            })
            .map(ResourceExt::name_any)
            .collect();
        lines.push(if foreign.is_empty() {
            Line::ok("cluster", "network policies", "none of others in culvert-system")
        } else {
            Line::warn(
                "cluster",
                "network policies",
                format!("in culvert-system: {}", foreign.join(", ")),
                "they must let the nodes' proxies and waypoints of any namespace reach the controller on 15012, and the API server our pods on 15014 and 15020 to 15022 (docs/networks.md)",
            )
        });
        lines
    }
}

fn api_server(version: &str) -> Line {
    match numbers(version) {
        Some(found) if found >= API_SERVER => Line::ok("cluster", "API server", version),
        Some(_) => Line::fail(
            "cluster",
            "API server",
            format!("{version} is older than v{}.{}", API_SERVER.0, API_SERVER.1),
            "update the cluster",
        ),
        None => Line::warn(
            "cluster",
            "API server",
            format!("its version {version:?} is not understood"),
            format!("see that it is v{}.{} or later", API_SERVER.0, API_SERVER.1),
        ),
    }
}

fn judged_node(node: &Node, api_server: &str) -> Vec<Line> {
    let name = node.name_any();
    let Some(info) = node.status.as_ref().and_then(|status| status.node_info.as_ref()) else {
        let remedy = "see whether its kubelet runs";
        return vec![Line::warn(&name, "node", "says nothing about itself", remedy)];
    };
    if info.operating_system == "windows" {
        return vec![Line::ok(
            &name,
            "operating system",
            "windows: its pods stay outside the mesh",
        )];
    }
    vec![
        kernel(&name, &info.kernel_version),
        kubelet(&name, &info.kubelet_version, api_server),
        runtime(&name, &info.container_runtime_version),
        architecture(&name, &info.architecture),
    ]
}

fn kernel(node: &str, version: &str) -> Line {
    match numbers(version) {
        Some(found) if found >= KERNEL => Line::ok(
            node,
            "kernel",
            format!("{version}; `culvert check --node-local` on the node probes its features"),
        ),
        Some(_) => Line::fail(
            node,
            "kernel",
            format!("{version} is older than {}.{}", KERNEL.0, KERNEL.1),
            "update the node's kernel, or keep Culvert's pods off it with a node selector",
        ),
        None => Line::warn(
            node,
            "kernel",
            format!("{version:?} is not understood"),
            "run `culvert check --node-local` on the node",
        ),
    }
}

fn kubelet(node: &str, version: &str, api_server: &str) -> Line {
    let (Some((_, kubelet)), Some((_, server))) = (numbers(version), numbers(api_server)) else {
        let remedy = "see that it is not newer than the API server";
        return Line::warn(node, "kubelet", format!("{version:?} is not understood"), remedy);
    };
    if kubelet > server {
        let found = format!("{version} is newer than the API server ({api_server})");
        return Line::fail(
            node,
            "kubelet",
            found,
            "update the API server first: Kubernetes does not support this",
        );
    }
    if server - kubelet > SKEW {
        let found = format!("{version} is more than {SKEW} versions behind the API server ({api_server})");
        return Line::warn(
            node,
            "kubelet",
            found,
            "update the node: Kubernetes does not support this",
        );
    }
    Line::ok(node, "kubelet", version)
}

fn runtime(node: &str, version: &str) -> Line {
    let name = version.split("://").next().unwrap_or_default();
    match name {
        "containerd" => Line::ok(node, "container runtime", version),
        _ => Line::warn(
            node,
            "container runtime",
            format!(
                "{version}: its socket is not where agents look first, so they find network namespaces through /proc"
            ),
            "nothing has to be done; pods that are there already take a moment longer to join",
        ),
    }
}

fn architecture(node: &str, architecture: &str) -> Line {
    if culvert_deploy::ARCHITECTURES.contains(&architecture) {
        return Line::ok(node, "architecture", architecture);
    }
    Line::warn(
        node,
        "architecture",
        format!(
            "{architecture}: the images are for {}, so no agent will run here, and its pods stay outside the mesh",
            culvert_deploy::ARCHITECTURES.join(" and ")
        ),
        "nothing has to be done; keep pods that must be in the mesh off this node",
    )
}

/// Major and minor of `v1.34.4+k3s1` or `6.18.44-generic`.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{Facts, api_server, judged_node, kernel, kubelet, numbers};
    use crate::line::Level;
    use serde_json::{from_value, json};

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        assert_eq!(numbers("v1.34.4+k3s1"), Some((1, 34)));
        assert_eq!(numbers("6.18.44-generic"), Some((6, 18)));
        assert_eq!(numbers("v1.30-eks-1"), Some((1, 30)));
        assert_eq!(numbers("rolling"), None);
    }

    #[test]
    fn old_kernels_and_api_servers_fail_with_a_remedy() {
        for line in [kernel("n", "5.10.0-21-amd64"), api_server("v1.20.1")] {
            assert_eq!(line.level, Level::Fail, "{line}");
            assert!(line.remedy.is_some());
        }
        assert_eq!(kernel("n", "5.15.0").level, Level::Ok);
        assert_eq!(kernel("n", "custom").level, Level::Warn);
    }

    #[test]
    fn a_kubelet_is_neither_newer_than_the_api_server_nor_far_behind() {
        let level = |version| kubelet("n", version, "v1.34.4").level;
        assert_eq!(level("v1.34.0"), Level::Ok);
        assert_eq!(level("v1.31.0"), Level::Ok);
        assert_eq!(level("v1.30.0"), Level::Warn);
        assert_eq!(level("v1.35.0"), Level::Fail);
    }

    #[test]
    fn windows_nodes_are_left_alone() {
        let info = json!({ "operatingSystem": "windows", "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "",
            "kernelVersion": "10.0", "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "osImage": "", "systemUUID": "" });
        let node = from_value(json!({ "metadata": { "name": "w" }, "status": { "nodeInfo": info } })).unwrap();
        let lines = judged_node(&node, "v1.34.4");
        assert!(lines.iter().all(|line| line.level == Level::Ok), "{lines:?}");
    }

    #[test]
    fn a_stricter_pod_security_and_foreign_policies_in_our_namespace_are_told() {
        let namespace = json!({ "metadata": { "name": "culvert-system", "labels": { "pod-security.kubernetes.io/enforce": "baseline" } } });
        let facts = Facts {
            version: "v1.34.4".to_owned(),
            namespaces: vec![from_value(namespace).unwrap()],
            policies: vec![from_value(json!({ "metadata": { "name": "deny-all" } })).unwrap()],
            ..Facts::default()
        };
        let lines = facts.judged();
        let level = |what: &str| lines.iter().find(|line| line.what == what).unwrap().level;
        assert_eq!(level("pod security"), Level::Warn);
        assert_eq!(level("network policies"), Level::Warn);
    }
}
