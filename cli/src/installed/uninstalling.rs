//! An uninstallation that was begun and not finished: the annotation that tells the nodes' agents stays, and keeps every pod out
//! of the mesh.

use crate::{cluster::names, line::Line, survey::Survey};
use kube::ResourceExt;

/// A line for each object that carries the annotation.
pub(super) fn judged(survey: &Survey) -> Vec<Line> {
    let mut namespaces = survey.namespaces.iter();
    let namespace = namespaces.find(|one| one.name_any() == names::NAMESPACE);
    let namespace = namespace.filter(|one| one.metadata.deletion_timestamp.is_none());
    let daemon_set = survey.daemon_set.as_ref();
    let daemon_set = daemon_set.filter(|one| one.metadata.deletion_timestamp.is_none());
    let line = |object: &str, by: &str| {
        let found = format!(
            "{object} has the annotation {}, from {by}: while it is there, pods leave the mesh and none joins, so they talk in plaintext",
            names::UNINSTALLING
        );
        let remedy = format!(
            "finish the uninstallation; to keep Culvert, `culvert install`, or kubectl -n {} annotate {object} {}-",
            names::NAMESPACE,
            names::UNINSTALLING
        );
        Line::warn("cluster", "uninstalling", found, remedy)
    };
    let is_annotated = |value: Option<&String>| value.is_some_and(|value| value == "true");
    let namespace = namespace.filter(|one| is_annotated(one.annotations().get(names::UNINSTALLING)));
    let daemon_set = daemon_set.filter(|one| is_annotated(one.annotations().get(names::UNINSTALLING)));
    let mut lines = Vec::new();
    lines.extend(namespace.map(|_| line("namespace culvert-system", "`culvert uninstall`")));
    lines.extend(daemon_set.map(|_| line("daemonset culvert-node", "`helm uninstall`, whose hook has run")));
    lines
}

#[cfg(test)]
mod tests {
    use super::judged;
    use crate::{line::Level, survey::Survey};
    use serde_json::{Value, from_value, json};

    fn survey(namespace: Value, daemon_set: Value) -> Survey {
        let mut metadata = namespace;
        metadata["name"] = json!("culvert-system");
        Survey {
            namespaces: vec![from_value(json!({ "metadata": metadata })).unwrap()],
            daemon_set: Some(from_value(json!({ "metadata": daemon_set })).unwrap()),
            ..Survey::default()
        }
    }

    #[test]
    fn an_uninstallation_that_was_broken_off_is_named_by_the_object_that_says_so() {
        let on = json!({ "annotations": { "culvert.dev/uninstalling": "true" } });
        let off = json!({ "annotations": { "culvert.dev/uninstalling": "false" } });
        let lines = judged(&survey(json!({}), on.clone()));
        assert_eq!(lines.len(), 1);
        assert!(
            lines[0].level == Level::Warn
                && lines[0].found.contains("helm uninstall")
                && lines[0].remedy.as_ref().is_some_and(|remedy| remedy
                    .contains("kubectl -n culvert-system annotate daemonset culvert-node culvert.dev/uninstalling-")),
            "{}",
            lines[0]
        );
        assert!(
            judged(&survey(on.clone(), off.clone()))[0]
                .found
                .starts_with("namespace culvert-system")
        );
        assert!(judged(&survey(off, json!({}))).is_empty());
        // What is under way and goes by itself.
        let going = json!({ "annotations": on["annotations"], "deletionTimestamp": "2026-11-21T00:00:00Z" });
        assert!(judged(&survey(going.clone(), going)).is_empty());
    }
}
