//! Dashboards, and what the Prometheus Operator takes.

use serde_json::{Value, json};

use super::{ControlPlane, changes, errors, json};

const NAMES: &str = "configmaps,podmonitors,prometheusrules";

/// The operator's kinds, as an API server knows them without the operator.
fn bring_the_operators_kinds(plane: &ControlPlane) {
    let definition = |kind: &str| {
        let singular = kind.to_lowercase();
        let plural = format!("{singular}s");
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("{plural}.monitoring.coreos.com") },
            "spec": {
                "group": "monitoring.coreos.com", "scope": "Namespaced",
                "names": { "kind": kind, "plural": plural, "singular": singular },
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
                }],
            },
        })
    };
    let definitions = ["PodMonitor", "PrometheusRule"].map(definition);
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": definitions });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kinds.json");
    std::fs::write(&path, list.to_string()).unwrap();
    plane.kubectl(&["apply", "-f", path.to_str().unwrap()]);
    for plural in ["podmonitors", "prometheusrules"] {
        let name = format!("crd/{plural}.monitoring.coreos.com");
        plane.kubectl(&["wait", "--for=condition=Established", &name]);
    }
}

pub(super) fn what_watches_the_mesh_comes_where_it_is_asked_for_and_is_kept_and_removed(plane: &ControlPlane) {
    let install = |flags: &[&str]| plane.culvert(&[&["install", "--no-wait", "-o", "json"], flags].concat());
    let without = install(&["--prometheus-operator"]);
    assert_eq!(without.status.code(), Some(1));
    let said = errors(&without);
    assert!(said.contains("no podmonitors.monitoring.coreos.com"), "{said}");

    bring_the_operators_kinds(plane);
    let both = install(&["--dashboards", "--prometheus-operator"]);
    assert_eq!(changes(&both, "created"), 5 + 4);
    let shown = plane.kubectl(&["get", "-n", "culvert-system", NAMES, "-o", "name"]);
    for name in [
        "configmap/culvert-dashboard-dns",
        "podmonitor.monitoring.coreos.com/culvert-waypoint",
    ] {
        assert!(shown.lines().any(|line| line == name), "{shown}");
    }
    let kept = install(&[]);
    assert_eq!((changes(&kept, "created"), changes(&kept, "changed")), (0, 0));
    assert!(
        errors(&kept).contains("dashboards, prometheus-operator"),
        "{}",
        errors(&kept)
    );

    let less = install(&["--dashboards=false", "--prometheus-operator=false"]);
    assert!(less.status.success(), "{}", errors(&less));
    let removed: Vec<Value> = json(&less)["removed"].as_array().unwrap().clone();
    assert_eq!(removed.len(), 5 + 4, "{removed:?}");
    // For the uninstallation.
    assert_eq!(
        changes(&install(&["--dashboards", "--prometheus-operator"]), "created"),
        5 + 4
    );
}
