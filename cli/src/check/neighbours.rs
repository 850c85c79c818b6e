//! Other meshes, and the cluster's network: what of them is known to matter.

use super::Line;
use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Namespace};
use kube::ResourceExt;

/// Other meshes by their usual namespace and by what their webhooks' names hold.
const MESHES: [(&str, &str, &str); 5] = [
    ("Istio", "istio-system", "istio"),
    ("Linkerd", "linkerd", "linkerd"),
    ("Kuma", "kuma-system", "kuma"),
    ("Consul", "consul", "consul-connect"),
    ("Open Service Mesh", "osm-system", "osm-webhook"),
];

/// Networks by the name of their DaemonSet, with what is known about them beside Culvert.
const NETWORKS: [(&str, &str, Note); 9] = [
    (
        "cilium",
        "Cilium",
        Note::Careful(
            "Cilium's own socket-level load balancing picks a Service's endpoint before Culvert sees the Service: set \
         socketLB.hostNamespaceOnly=true; and cni.exclusive=false, or Cilium removes other CNI plug-ins",
        ),
    ),
    ("calico-node", "Calico", Note::Fine),
    ("canal", "Canal", Note::Fine),
    ("kube-flannel-ds", "Flannel", Note::Fine),
    ("kindnet", "kindnet", Note::Fine),
    ("weave-net", "Weave Net", Note::Fine),
    ("antrea-agent", "Antrea", Note::Fine),
    (
        "aws-node",
        "Amazon VPC CNI",
        Note::Careful("pods with security groups of their own need port 15008 open between them"),
    ),
    ("azure-cns", "Azure CNI", Note::Fine),
];

/// What is known about a network.
#[derive(Clone, Copy, Debug)]
enum Note {
    /// Nothing to mind.
    Fine,
    /// Something to do.
    Careful(&'static str),
}

/// A line for each mesh that is there, or one that says none is.
pub(super) fn meshes(namespaces: &[Namespace], webhooks: &[String]) -> Vec<Line> {
    let found: Vec<Line> = MESHES
        .into_iter()
        .filter_map(|(name, namespace, webhook)| {
            let has_namespace = namespaces.iter().any(|one| one.name_any() == namespace);
            let hooks: Vec<&str> = webhooks
                .iter()
                .filter(|one| one.contains(webhook))
                .map(String::as_str)
                .collect();
            let mut signs = Vec::new();
            if has_namespace {
                signs.push(format!("namespace {namespace}"));
            }
            if !hooks.is_empty() {
                signs.push(format!("webhooks {}", hooks.join(", ")));
            }
            (!signs.is_empty()).then(|| {
                let remedy = "pods with its sidecar stay outside Culvert; do not enrol a namespace in both at once";
                Line::warn(
                    "cluster",
                    "other meshes",
                    format!("{name}: {}", signs.join(", ")),
                    remedy,
                )
            })
        })
        .collect();
    if found.is_empty() {
        return vec![Line::ok("cluster", "other meshes", "none is known here")];
    }
    found
}

/// The cluster's network, by its DaemonSets.
pub(super) fn cni(daemon_sets: &[DaemonSet]) -> Line {
    let found = NETWORKS.into_iter().find(|(daemon_set, _, _)| {
        let is =
            |one: &DaemonSet| one.name_any() == *daemon_set || one.name_any().starts_with(&format!("{daemon_set}-"));
        daemon_sets.iter().any(is)
    });
    match found {
        Some((_, name, Note::Fine)) => Line::ok("cluster", "network", name),
        Some((_, name, Note::Careful(remedy))) => Line::warn("cluster", "network", name, remedy),
        None => Line::ok(
            "cluster",
            "network",
            "not one known by name; any CNI will do whose configuration is a list of plug-ins",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{cni, meshes};
    use crate::check::Level;
    use serde_json::{from_value, json};

    #[test]
    fn another_mesh_is_seen_by_namespace_or_webhook() {
        let namespace = |name: &str| from_value(json!({ "metadata": { "name": name } })).unwrap();
        assert_eq!(meshes(&[namespace("default")], &[])[0].level, Level::Ok);
        let lines = meshes(
            &[namespace("istio-system")],
            &["linkerd-proxy-injector-webhook-config".to_owned()],
        );
        assert_eq!(lines.len(), 2);
        assert!(
            lines
                .iter()
                .all(|line| line.level == Level::Warn && line.remedy.is_some())
        );
    }

    #[test]
    fn a_network_that_needs_a_setting_is_told_with_it() {
        let set = |name: &str| from_value(json!({ "metadata": { "name": name } })).unwrap();
        let cilium = cni(&[set("cilium")]);
        assert!(cilium.remedy.unwrap().contains("cni.exclusive=false"));
        assert_eq!(cni(&[set("calico-node")]).level, Level::Ok);
        assert_eq!(cni(&[]).level, Level::Ok);
    }
}
