//! Other meshes, and the cluster's network: what of them is known to matter.

use crate::line::Line;
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{ConfigMap, Namespace},
};
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
             socketLB.hostNamespaceOnly=true",
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

/// The cluster's network, by its DaemonSets, and what Cilium's own configuration says.
pub(super) fn cni(daemon_sets: &[DaemonSet], cilium: Option<&ConfigMap>) -> Vec<Line> {
    let found = NETWORKS.into_iter().find(|(daemon_set, _, _)| {
        let is =
            |one: &DaemonSet| one.name_any() == *daemon_set || one.name_any().starts_with(&format!("{daemon_set}-"));
        daemon_sets.iter().any(is)
    });
    let mut lines = Vec::new();
    let is_set = |key: &str, value: &str| {
        let data = cilium.and_then(|map| map.data.as_ref());
        data.and_then(|data| data.get(key))
            .is_some_and(|set| set.eq_ignore_ascii_case(value))
    };
    if is_set("cni-exclusive", "true") {
        let remedy = "set cni.exclusive=false in Cilium's Helm values (cni-exclusive: \"false\" in its ConfigMap) and restart its DaemonSet";
        let found = "Cilium is exclusive (cilium-config: cni-exclusive is true): it takes every other CNI configuration away, Culvert's \
                     too, and new pods start before they are captured";
        lines.push(Line::fail("cluster", "network", found, remedy));
    }
    lines.push(match found {
        // What its configuration says need not be advised.
        Some((_, "Cilium", _)) if is_set("bpf-lb-sock-hostns-only", "true") => Line::ok("cluster", "network", "Cilium"),
        Some((_, name, Note::Fine)) => Line::ok("cluster", "network", name),
        Some((_, name, Note::Careful(remedy))) => Line::warn("cluster", "network", name, remedy),
        None => Line::ok(
            "cluster",
            "network",
            "not one known by name; any CNI will do whose configuration is a list of plug-ins",
        ),
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::{cni, meshes};
    use crate::line::Level;
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
        let config = |data: serde_json::Value| {
            from_value(json!({ "metadata": { "name": "cilium-config" }, "data": data })).unwrap()
        };
        let exclusive = cni(&[set("cilium")], Some(&config(json!({ "cni-exclusive": "true" }))));
        assert_eq!((exclusive[0].level, exclusive[1].level), (Level::Fail, Level::Warn));
        assert!(exclusive[0].remedy.as_ref().unwrap().contains("cni.exclusive=false"));
        let suits = json!({ "cni-exclusive": "false", "bpf-lb-sock-hostns-only": "true" });
        assert_eq!(cni(&[set("cilium")], Some(&config(suits)))[0].level, Level::Ok);
        assert_eq!(cni(&[set("calico-node")], None)[0].level, Level::Ok);
        assert_eq!(cni(&[], None)[0].level, Level::Ok);
    }
}
