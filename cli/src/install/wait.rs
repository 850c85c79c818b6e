//! Waits until what was applied runs, and says meanwhile what holds it up.

use crate::{
    cluster::{Cluster, Failure, list, names},
    failed_create,
    pod::{is_ready, stuck},
    progress::Progress,
};
use culvert_deploy::Rollout;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment},
    core::v1::{Event, Pod, Secret},
};
use kube::{ResourceExt, api::ListParams};
use serde::Serialize;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// How far one thing has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stage {
    pub(super) name: &'static str,
    pub(super) is_done: bool,
    pub(super) said: String,
}

/// How far everything had come at the end.
#[derive(Debug)]
pub(super) struct Outcome {
    stages: Vec<Stage>,
}

impl Outcome {
    pub(super) fn is_well(&self) -> bool {
        self.stages.iter().all(|stage| stage.is_done)
    }

    pub(super) fn json(&self) -> Value {
        let stage = |stage: &Stage| json!({ "name": stage.name, "done": stage.is_done, "says": stage.said });
        self.stages.iter().map(stage).collect()
    }
}

/// What is looked at each time.
#[derive(Debug, Default)]
struct Sight {
    deployment: Option<Deployment>,
    daemon_set: Option<DaemonSet>,
    /// The versions that the DaemonSet has had.
    revisions: Vec<ControllerRevision>,
    has_authority: bool,
    pods: Vec<Pod>,
    warnings: Vec<Event>,
}

pub(super) async fn until_it_runs(
    cluster: &Cluster,
    patience: Duration,
    progress: &Progress,
) -> Result<Outcome, Failure> {
    let until = Instant::now() + patience;
    let first = judged(&Sight::default());
    let mut steps: Vec<_> = first.iter().map(|stage| Some(progress.step(stage.name))).collect();
    loop {
        let stages = judged(&Sight::of(cluster).await?);
        for (stage, step) in stages.iter().zip(&mut steps) {
            if stage.is_done {
                if let Some(step) = step.take() {
                    step.done(stage.said.clone());
                }
            } else if let Some(step) = step {
                step.say(stage.said.clone());
            }
        }
        let outcome = Outcome { stages };
        if outcome.is_well() {
            return Ok(outcome);
        }
        if Instant::now() >= until {
            for (stage, step) in outcome.stages.iter().zip(steps) {
                if let Some(step) = step {
                    step.failed(stage.said.clone());
                }
            }
            return Ok(outcome);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Sight {
    async fn of(cluster: &Cluster) -> Result<Self, Failure> {
        let doing = |error| Failure::of("looking how far the installation is", error);
        let (deployments, daemon_sets, secrets) = (
            cluster.ours::<Deployment>(),
            cluster.ours::<DaemonSet>(),
            cluster.ours::<Secret>(),
        );
        let (deployment, daemon_set, authority) = futures_util::try_join!(
            deployments.get_opt(names::CONTROLLER),
            daemon_sets.get_opt(names::NODE),
            // Its metadata: the key is nobody's business here.
            secrets.get_metadata_opt(names::CA_SECRET),
        )
        .map_err(doing)?;
        let revisions = list(
            &cluster.ours::<ControllerRevision>(),
            &ListParams::default().labels(&format!("app.kubernetes.io/name={}", names::NODE)),
            "listing the versions of the DaemonSet",
        )
        .await?;
        let pods = list(
            &cluster.ours::<Pod>(),
            &ListParams::default().labels("app.kubernetes.io/part-of=culvert"),
            "listing our pods",
        )
        .await?;
        let warnings = ListParams::default().fields("type=Warning");
        Ok(Self {
            deployment,
            daemon_set,
            revisions,
            has_authority: authority.is_some(),
            // Somebody who may not read events does without the reasons that only they know.
            warnings: list(&cluster.ours::<Event>(), &warnings, "listing events")
                .await
                .unwrap_or_default(),
            pods,
        })
    }
}

fn judged(sight: &Sight) -> Vec<Stage> {
    vec![controllers(sight), authority(sight), nodes(sight)]
}

fn controllers(sight: &Sight) -> Stage {
    let spec = sight.deployment.as_ref().and_then(|one| one.spec.as_ref());
    let status = sight.deployment.as_ref().and_then(|one| one.status.as_ref());
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let current = status.is_some_and(|status| {
        status.observed_generation >= sight.deployment.as_ref().and_then(|one| one.metadata.generation)
    });
    let (updated, ready) = status.map_or((0, 0), |status| {
        (
            status.updated_replicas.unwrap_or(0),
            status.available_replicas.unwrap_or(0),
        )
    });
    let is_done = current && updated >= wanted && ready >= wanted;
    let mut said = format!("{ready} of {wanted} ready");
    if current && updated < wanted {
        said += &format!(", {updated} of this version");
    }
    Stage {
        name: "controller",
        said: with_reason(said, is_done, sight, names::CONTROLLER),
        is_done,
    }
}

fn authority(sight: &Sight) -> Stage {
    let said = match sight.has_authority {
        true => "the Secret culvert-ca is there",
        false => "the leading controller has not made the Secret culvert-ca yet",
    };
    Stage {
        name: "certificate authority",
        is_done: sight.has_authority,
        said: said.to_owned(),
    }
}

fn nodes(sight: &Sight) -> Stage {
    let Some(rollout) = rollout(sight) else {
        return Stage {
            name: "nodes",
            is_done: false,
            said: "not looked at by the cluster yet".to_owned(),
        };
    };
    let mut said = format!("{} of {} ready", rollout.ready, rollout.wanted);
    if rollout.renewed < rollout.ready {
        said += &format!(", {} of this version", rollout.renewed);
    }
    Stage {
        name: "nodes",
        said: with_reason(said, rollout.is_done(), sight, names::NODE),
        is_done: rollout.is_done(),
    }
}

/// How far the nodes' pods are.
fn rollout(sight: &Sight) -> Option<Rollout> {
    let daemon_set = serde_json::to_value(sight.daemon_set.as_ref()?).ok()?;
    Rollout::of(&daemon_set, &values(&sight.revisions), &values(&sight.pods))
}

fn values<T: Serialize>(objects: &[T]) -> Vec<Value> {
    let values = objects.iter().map(serde_json::to_value);
    values.filter_map(Result::ok).collect()
}

/// Adds why the first pod that is stuck is stuck.
fn with_reason(said: String, is_done: bool, sight: &Sight, app: &str) -> String {
    let is_app = |pod: &&Pod| {
        pod.labels()
            .get("app.kubernetes.io/name")
            .is_some_and(|name| name == app)
    };
    let mut reasons = sight
        .pods
        .iter()
        .filter(is_app)
        .filter(|pod| pod.metadata.deletion_timestamp.is_none() && !is_ready(pod))
        .filter_map(|pod| Some((pod, stuck(pod, &sight.warnings)?)));
    if is_done {
        return said;
    }
    match reasons.next() {
        Some((pod, reason)) => {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            let place = node.map_or_else(|| pod.name_any(), |node| format!("{} on {node}", pod.name_any()));
            format!("{said}; {place}: {reason}")
        }
        None => match not_made(sight, app) {
            Some(why) => format!("{said}; no pod is made: {why}"),
            None => said,
        },
    }
}

fn not_made(sight: &Sight, app: &str) -> Option<String> {
    match app {
        names::NODE => failed_create::of_nodes(&sight.warnings),
        _ => failed_create::of_controllers(&sight.warnings),
    }
}

#[cfg(test)]
mod tests {
    use super::{Sight, judged};
    use k8s_openapi::api::core::v1::Pod;
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
    fn a_pod_that_is_not_made_at_all_has_its_reason_from_its_owner() {
        let event = json!({ "metadata": {}, "involvedObject": { "kind": "DaemonSet", "name": "culvert-node" },
            "reason": "FailedCreate", "message": "insufficient quota to match these scopes" });
        let sight = Sight {
            warnings: vec![from_value(event).unwrap()],
            daemon_set: from_value(json!({ "metadata": { "generation": 1, "uid": "d" }, "status": { "observedGeneration": 1,
                "desiredNumberScheduled": 2, "currentNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0 } }))
            .unwrap(),
            revisions: vec![from_value(json!({ "metadata": { "labels": { "controller-revision-hash": "a" },
                "ownerReferences": [{ "apiVersion": "", "kind": "", "name": "", "uid": "d" }] }, "revision": 1 }))
            .unwrap()],
            ..Sight::default()
        };
        let nodes = judged(&sight).into_iter().find(|stage| stage.name == "nodes").unwrap();
        assert!(
            nodes.said.starts_with("0 of 2 ready; no pod is made") && nodes.said.contains("ResourceQuota"),
            "{}",
            nodes.said
        );
    }

    #[test]
    fn nodes_are_done_when_the_new_pods_are_ready_while_the_old_ones_still_drain() {
        let owned = |mut object: Value, hash: &str| {
            object["metadata"]["ownerReferences"] = json!([{ "apiVersion": "", "kind": "", "name": "", "uid": "d" }]);
            object["metadata"]["labels"]["controller-revision-hash"] = json!(hash);
            object
        };
        let running = |hash: &str, ends: bool| -> Pod {
            let ready = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
            let mut pod = owned(serde_json::to_value(pod(ready)).unwrap(), hash);
            if ends {
                pod["metadata"]["deletionTimestamp"] = json!("2026-11-21T00:00:00Z");
            }
            from_value(pod).unwrap()
        };
        let revision =
            |hash: &str, number: u32| from_value(owned(json!({ "metadata": {}, "revision": number }), hash)).unwrap();
        let sight = |observed: u32, pods: Vec<Pod>| Sight {
            daemon_set: from_value(json!({
                "metadata": { "generation": 2, "uid": "d" },
                "status": { "observedGeneration": observed, "desiredNumberScheduled": 1, "updatedNumberScheduled": 0,
                    "numberAvailable": 0, "currentNumberScheduled": 1, "numberMisscheduled": 0, "numberReady": 0 },
            }))
            .unwrap(),
            revisions: vec![revision("old", 1), revision("new", 2)],
            pods,
            ..Sight::default()
        };
        let nodes = |sight: &Sight| judged(sight).into_iter().find(|stage| stage.name == "nodes").unwrap();
        assert!(!nodes(&sight(1, vec![running("new", false)])).is_done);
        let serving = nodes(&sight(2, vec![running("old", false)]));
        assert_eq!(
            (serving.is_done, &*serving.said),
            (false, "1 of 1 ready, 0 of this version")
        );
        assert!(nodes(&sight(2, vec![running("old", true), running("new", false)])).is_done);
    }
}
