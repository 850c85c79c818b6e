//! What a pod's status says: whether it is ready, and if not, why.

use k8s_openapi::{
    api::core::v1::{ContainerStatus, Event, Pod},
    jiff::Timestamp,
};

/// Whether all containers of a pod are ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|one| one.type_ == "Ready" && one.status == "True")
}

/// Why a pod is not ready: nowhere to run, a container that does not start or keeps ending, or else its last warning.
pub(crate) fn stuck(pod: &Pod, warnings: &[Event]) -> Option<String> {
    let status = pod.status.as_ref();
    let unscheduled = status
        .into_iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .find(|one| one.type_ == "PodScheduled" && one.status == "False");
    if let Some(condition) = unscheduled {
        return Some(condition.message.clone().unwrap_or_else(|| "not scheduled".to_owned()));
    }
    let containers = status.into_iter().flat_map(|status| {
        let all = status.init_container_statuses.iter().chain(&status.container_statuses);
        all.flatten()
    });
    let of_containers = containers.filter(|one| !one.ready).find_map(container_stuck);
    of_containers.or_else(|| last_warning(pod, warnings))
}

fn container_stuck(container: &ContainerStatus) -> Option<String> {
    let ended = container
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    let ended = ended.map(|ended| {
        let message = ended.message.as_deref().unwrap_or_default().trim();
        format!(
            "ended {} times, last with exit code {} {message}",
            container.restart_count, ended.exit_code
        )
    });
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    let waiting = waiting.and_then(|waiting| {
        let reason = waiting.reason.as_deref().filter(|reason| {
            // What every pod goes through is no reason.
            !matches!(*reason, "ContainerCreating" | "PodInitializing")
        })?;
        Some(format!("{reason}: {}", waiting.message.as_deref().unwrap_or_default()))
    });
    let parts: Vec<String> = waiting.into_iter().chain(ended).collect();
    (!parts.is_empty()).then(|| format!("{} {}", container.name, parts.join("; ").trim_end()))
}

fn last_warning(pod: &Pod, warnings: &[Event]) -> Option<String> {
    let of_pod = warnings
        .iter()
        .filter(|event| event.involved_object.uid == pod.metadata.uid);
    let last = of_pod.max_by_key(|event| moment(event))?;
    let reason = last.reason.as_deref().unwrap_or("warning");
    Some(format!("{reason}: {}", last.message.as_deref().unwrap_or_default()))
}

/// When an event was last seen.
pub(crate) fn moment(event: &Event) -> Option<Timestamp> {
    let series = event
        .series
        .as_ref()
        .and_then(|series| series.last_observed_time.as_ref());
    let seen = series.or(event.event_time.as_ref()).map(|time| time.0);
    seen.max(event.last_timestamp.as_ref().map(|time| time.0))
}

#[cfg(test)]
mod tests {
    use super::stuck;
    use k8s_openapi::api::core::v1::{Event, Pod};
    use serde_json::{Value, from_value, json};

    fn pod(status: Value) -> Pod {
        let labels = json!({ "app.kubernetes.io/name": "culvert-node" });
        from_value(json!({
            "metadata": { "name": "p", "uid": "u", "labels": labels },
            "spec": { "nodeName": "n1", "containers": [] },
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_container_that_does_not_start_is_named_with_its_reason() {
        let waiting = json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } });
        let status = json!({ "containerStatuses": [{ "name": "agent", "ready": false, "restartCount": 0, "image": "", "imageID": "", "state": waiting }] });
        assert_eq!(
            stuck(&pod(status), &[]).unwrap(),
            "agent ImagePullBackOff: no such image"
        );
    }

    #[test]
    fn a_container_that_keeps_ending_shows_how_it_ended() {
        let status = json!({ "containerStatuses": [{
            "name": "ztunnel", "ready": false, "restartCount": 3, "image": "", "imageID": "",
            "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off" } },
            "lastState": { "terminated": { "exitCode": 1, "message": "no cgroup2" } },
        }] });
        let said = stuck(&pod(status), &[]).unwrap();
        assert!(
            said.contains("CrashLoopBackOff") && said.contains("3 times") && said.contains("no cgroup2"),
            "{said}"
        );
    }

    #[test]
    fn a_pod_without_a_node_says_why_and_one_that_is_being_made_shows_its_last_warning() {
        let unscheduled =
            json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "message": "0/0 nodes" }] });
        assert_eq!(stuck(&pod(unscheduled), &[]).unwrap(), "0/0 nodes");
        let event = |second: u8, message: &str| -> Event {
            from_value(json!({
                "metadata": {}, "involvedObject": { "uid": "u" }, "reason": "FailedMount", "message": message,
                "lastTimestamp": format!("2026-11-21T00:00:0{second}Z"),
            }))
            .unwrap()
        };
        let creating = json!({ "containerStatuses": [{ "name": "agent", "ready": false, "restartCount": 0, "image": "",
            "imageID": "", "state": { "waiting": { "reason": "ContainerCreating" } } }] });
        let said = stuck(&pod(creating), &[event(2, "late"), event(1, "early")]);
        assert_eq!(said.unwrap(), "FailedMount: late");
    }
}
