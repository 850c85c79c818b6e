//! Why no pod of ours is made at all: then there is no pod that could say it, only an event on its owner.

use crate::{cluster::names, pod::moment};
use k8s_openapi::api::core::v1::Event;

/// Why the DaemonSet's pods are not made.
pub(crate) fn of_nodes(warnings: &[Event]) -> Option<String> {
    last(warnings, |event| {
        let owner = &event.involved_object;
        owner.kind.as_deref() == Some("DaemonSet") && owner.name.as_deref() == Some(names::NODE)
    })
}

/// Why the controllers are not made: their ReplicaSets try it.
pub(crate) fn of_controllers(warnings: &[Event]) -> Option<String> {
    last(warnings, |event| {
        let owner = &event.involved_object;
        let is_ours = |name: &str| {
            name.strip_prefix(names::CONTROLLER)
                .is_some_and(|rest| rest.starts_with('-'))
        };
        owner.kind.as_deref() == Some("ReplicaSet") && owner.name.as_deref().is_some_and(is_ours)
    })
}

fn last(warnings: &[Event], is_meant: impl Fn(&Event) -> bool) -> Option<String> {
    let failed = warnings
        .iter()
        .filter(|event| event.reason.as_deref() == Some("FailedCreate") && is_meant(event));
    let message = failed.max_by_key(|event| moment(event))?.message.clone()?;
    Some(match message.contains("insufficient quota to match these scopes") {
        true => format!(
            "{message} (this cluster rations priority classes: the ResourceQuota culvert-critical of the manifests is missing)"
        ),
        false => message,
    })
}

#[cfg(test)]
mod tests {
    use super::{of_controllers, of_nodes};
    use serde_json::{from_value, json};

    #[test]
    fn a_quota_that_is_missing_is_told_from_the_events_of_daemon_set_and_replica_set() {
        let event = |kind: &str, name: &str, message: &str| {
            from_value(json!({
                "metadata": {}, "involvedObject": { "kind": kind, "name": name }, "reason": "FailedCreate",
                "message": message, "lastTimestamp": "2026-11-29T00:00:00Z",
            }))
            .unwrap()
        };
        let message = "pods \"culvert-node-\" is forbidden: insufficient quota to match these scopes: [{PriorityClass In \
                       [system-node-critical system-cluster-critical]}]";
        let events = [
            event("DaemonSet", "culvert-node", message),
            event("ReplicaSet", "culvert-controller-5d", message),
            event("ReplicaSet", "somebody-elses-5d", "no"),
        ];
        for said in [of_nodes(&events), of_controllers(&events)] {
            let said = said.unwrap();
            assert!(
                said.contains("insufficient quota") && said.contains("ResourceQuota"),
                "{said}"
            );
        }
        assert_eq!(of_nodes(&events[1..]), None);
    }
}
