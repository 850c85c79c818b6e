//! Objects that an earlier version, or other flags, installed and that are no longer among the manifests.

use crate::{
    cluster::{Cluster, Failure, for_each_limited, names},
    kinds::{PROMETHEUS_OPERATOR, api, in_order_of_removal},
    progress::Progress,
};
use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams},
};
use serde_json::Value;

/// On everything that the manifests hold.
const LABEL: &str = "app.kubernetes.io/part-of=culvert";

/// Objects of a kind that carry our label.
pub(crate) async fn labelled(cluster: &Cluster, kind: (&str, &str, &str)) -> Result<Vec<DynamicObject>, Failure> {
    let found = api(cluster, kind).list(&ListParams::default().labels(LABEL)).await;
    match found {
        Ok(list) => Ok(list.items),
        // A kind that this cluster does not know has no objects.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        // Nobody else needs a right to these; and who has none has made none.
        Err(kube::Error::Api(status)) if status.code == 403 && PROMETHEUS_OPERATOR.contains(&kind) => Ok(Vec::new()),
        Err(error) => Err(Failure::of(format!("listing objects of kind {}", kind.2), error)),
    }
}

/// Removes them, and gives their names.
pub(super) async fn others(cluster: &Cluster, objects: &[Value], progress: &Progress) -> Result<Vec<String>, Failure> {
    let found = for_each_limited(in_order_of_removal(), |kind| async move {
        (kind, labelled(cluster, kind).await)
    })
    .await;
    let mut removed = Vec::new();
    for (kind, objects_found) in found {
        for object in objects_found? {
            if !is_ours_and_left_over(&object, kind.2, objects) {
                continue;
            }
            let name = object.name_any();
            let doing = || format!("removing {} {name}, which is no longer needed", kind.2);
            match api(cluster, kind).delete(&name, &DeleteParams::background()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => continue,
                Err(error) => return Err(Failure::of(doing(), error)),
                Ok(_) => {}
            }
            progress.note(format!("removed {} {name}, which is no longer needed", kind.2));
            removed.push(format!("{} {name}", kind.2));
        }
    }
    Ok(removed)
}

/// Only what this command applied: what somebody else labelled likewise is his.
fn is_ours_and_left_over(object: &DynamicObject, kind: &str, objects: &[Value]) -> bool {
    let name = object.name_any();
    let is_wanted = objects
        .iter()
        .any(|wanted| wanted["kind"] == kind && wanted["metadata"]["name"] == *name);
    is_applied_by_us(object) && !is_wanted
}

/// Whether this command applied it.
pub(super) fn is_applied_by_us(object: &impl ResourceExt) -> bool {
    let mut entries = object.managed_fields().iter();
    entries.any(|entry| entry.manager.as_deref() == Some(names::MANAGER) && entry.operation.as_deref() == Some("Apply"))
}

#[cfg(test)]
mod tests {
    use super::is_ours_and_left_over;
    use kube::api::DynamicObject;
    use serde_json::{from_value, json};

    fn object(manager: &str) -> DynamicObject {
        from_value(
            json!({ "metadata": { "name": "a", "managedFields": [{ "manager": manager, "operation": "Apply" }] } }),
        )
        .unwrap()
    }

    #[test]
    fn only_what_we_applied_and_no_longer_want_is_removed() {
        let wanted = [json!({ "kind": "Service", "metadata": { "name": "a" } })];
        assert!(is_ours_and_left_over(&object("culvert"), "ConfigMap", &wanted));
        assert!(!is_ours_and_left_over(&object("culvert"), "Service", &wanted));
        assert!(!is_ours_and_left_over(&object("argocd"), "ConfigMap", &wanted));
    }
}
