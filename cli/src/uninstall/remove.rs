//! Removes what installing made, and what our programs made since: the workloads first, and the rights that they still need
//! to end well only when they are gone.

use super::{
    made::{self, Made},
    one::delete,
};
use crate::{
    cluster::{Cluster, Failure, for_each_limited, list, names},
    install::prune::labelled,
    kinds::{api, in_order_of_removal},
    progress::Progress,
};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(500);
/// How often a node that changes meanwhile is read and written.
const ATTEMPTS: usize = 20;
/// On nodes that wait for their agent.
const TAINT: &str = "culvert.dev/agent-not-ready";

type Kind = (&'static str, &'static str, &'static str);

/// What there is to remove.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) has_namespace: bool,
    /// In the order of removal, without the namespace.
    objects: Vec<(Kind, String)>,
    /// What the controller made all over the cluster.
    made: Vec<Made>,
}

impl Found {
    pub(super) async fn on(cluster: &Cluster) -> Result<Self, Failure> {
        let namespaces: Api<Namespace> = cluster.all();
        let namespace = namespaces
            .get_metadata_opt(names::NAMESPACE)
            .await
            .map_err(|error| Failure::of("looking for the namespace culvert-system", error))?;
        let found = for_each_limited(in_order_of_removal(), |kind| async move {
            (kind, labelled(cluster, kind).await)
        });
        let mut objects = Vec::new();
        for (kind, found) in found.await {
            objects.extend(found?.into_iter().map(|object| (kind, object.name_any())));
        }
        Ok(Self {
            has_namespace: namespace.is_some(),
            objects,
            made: made::all(cluster).await?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.has_namespace && self.objects.is_empty() && self.made.is_empty()
    }
}

/// Removes it all and waits until it is gone. Gives what was removed.
pub(super) async fn everything(
    cluster: &Cluster,
    found: Found,
    patience: Duration,
    progress: &Progress,
) -> Result<Vec<String>, Failure> {
    let until = Instant::now() + patience;
    let (workloads, others): (Vec<_>, Vec<_>) = found
        .objects
        .into_iter()
        .partition(|((_, _, kind), _)| matches!(*kind, "Deployment" | "DaemonSet"));
    let step = progress.step("workloads");
    let mut removed = Vec::new();
    for (kind, name) in workloads {
        removed.extend(delete(&api(cluster, kind), kind.2, &name).await?);
    }
    pods_gone(cluster, until, &step).await?;
    step.done("gone");

    let step = progress.step("everything else");
    // After the controller, which would make them again.
    for made in &found.made {
        removed.extend(made.remove(cluster).await?);
    }
    for (kind, name) in others {
        removed.extend(delete(&api(cluster, kind), kind.2, &name).await?);
    }
    untaint(cluster).await?;
    if found.has_namespace {
        let namespaces: Api<Namespace> = cluster.all();
        removed.extend(delete(&namespaces, "Namespace", names::NAMESPACE).await?);
        namespace_gone(&namespaces, until, &step).await?;
    }
    step.done(format!("{} objects removed", removed.len()));
    Ok(removed)
}

/// Waits until no pod of ours is left. Nothing is in them any more, or its time is up, so the hour that a proxy is
/// granted to drain is cut short; those on dead nodes, which nobody will ever report as gone, are struck off.
async fn pods_gone(cluster: &Cluster, until: Instant, step: &crate::progress::Step) -> Result<(), Failure> {
    let pods: Api<Pod> = cluster.ours();
    let ours = ListParams::default().labels("app.kubernetes.io/part-of=culvert");
    loop {
        let left = list(&pods, &ours, "listing our pods").await?;
        if left.is_empty() {
            return Ok(());
        }
        let dead = dead_nodes(cluster).await?;
        for pod in &left {
            let on_dead_node = pod
                .spec
                .as_ref()
                .and_then(|spec| spec.node_name.as_ref())
                .is_some_and(|node| dead.contains(node));
            let grace: u32 = if on_dead_node { 0 } else { 5 };
            let is_ending_soon = pod
                .metadata
                .deletion_grace_period_seconds
                .is_some_and(|seconds| seconds <= i64::from(grace));
            if pod.meta().deletion_timestamp.is_some() && is_ending_soon {
                continue;
            }
            let outcome = pods
                .delete(&pod.name_any(), &DeleteParams::default().grace_period(grace))
                .await;
            match outcome {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(Failure::of(format!("ending pod {}", pod.name_any()), error)),
                Ok(_) => {}
            }
        }
        step.say(format!("{} pods left", left.len()));
        late(until, || {
            format!(
                "{} pods of ours are still there, the first is {}",
                left.len(),
                left[0].name_any()
            )
        })?;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn dead_nodes(cluster: &Cluster) -> Result<Vec<String>, Failure> {
    let nodes: Vec<Node> = list(&cluster.all(), &ListParams::default(), "listing nodes").await?;
    let facts = crate::survey::placed(&nodes, &[]);
    Ok(facts
        .into_iter()
        .filter(|node| !node.is_ready)
        .map(|node| node.name)
        .collect())
}

async fn namespace_gone(
    namespaces: &Api<Namespace>,
    until: Instant,
    step: &crate::progress::Step,
) -> Result<(), Failure> {
    loop {
        let found = namespaces
            .get_opt(names::NAMESPACE)
            .await
            .map_err(|error| Failure::of("looking whether the namespace is gone", error))?;
        let Some(namespace) = found else { return Ok(()) };
        let conditions = namespace
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        let held: Vec<&str> = conditions
            .filter(|one| one.status == "True")
            .filter_map(|one| one.message.as_deref())
            .collect();
        let said = format!("namespace culvert-system is being removed {}", held.join("; "));
        step.say(said.trim_end());
        late(until, || said.trim_end().to_owned())?;
        tokio::time::sleep(PAUSE).await;
    }
}

fn late(until: Instant, said: impl Fn() -> String) -> Result<(), Failure> {
    if Instant::now() < until {
        return Ok(());
    }
    Err(Failure::Other {
        doing: "removing Culvert".to_owned(),
        cause: format!(
            "time is up: {}; the same command again goes on, --timeout waits longer",
            said()
        ),
    })
}

/// Takes the label that enrols off every namespace that has it. Istio's label with the same meaning is Istio's.
pub(super) async fn labels(cluster: &Cluster, progress: &Progress) -> Result<(), Failure> {
    let namespaces: Api<Namespace> = cluster.all();
    let labelled = ListParams::default().labels(names::MESH_LABELS[0]);
    let without = json!({ "metadata": { "labels": { names::MESH_LABELS[0]: null } } });
    for namespace in list(&namespaces, &labelled, "listing labelled namespaces").await? {
        let name = namespace.name_any();
        namespaces
            .patch(&name, &PatchParams::default(), &Patch::Merge(&without))
            .await
            .map_err(|error| Failure::of(format!("removing the label of namespace {name}"), error))?;
        progress.note(format!("removed the label culvert.dev/mesh of namespace {name}"));
    }
    Ok(())
}

/// No agent will come and take the taint off.
async fn untaint(cluster: &Cluster) -> Result<(), Failure> {
    let nodes: Api<Node> = cluster.all();
    for node in list(&nodes, &ListParams::default(), "listing nodes").await? {
        let name = node.name_any();
        let outcome = unless_changed_meanwhile(async || {
            let Some(node) = nodes.get_opt(&name).await? else {
                return Ok(());
            };
            match without_taint(&node) {
                Some(patch) => nodes
                    .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
                    .await
                    .map(drop),
                None => Ok(()),
            }
        });
        if without_taint(&node).is_some() {
            outcome
                .await
                .map_err(|error| Failure::of(format!("taking the taint {TAINT} off node {name}"), error))?;
        }
    }
    Ok(())
}

/// What takes the taint off, where it is on. With the version that was read, so that a taint that somebody adds meanwhile is not lost.
fn without_taint(node: &Node) -> Option<Value> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref())?;
    let others: Vec<_> = taints.iter().filter(|taint| taint.key != TAINT).collect();
    (others.len() < taints.len())
        .then(|| json!({ "metadata": { "resourceVersion": node.resource_version() }, "spec": { "taints": others } }))
}

/// Reads and writes again where the object has changed between the two, as nodes do every few seconds.
async fn unless_changed_meanwhile(attempt: impl AsyncFn() -> kube::Result<()>) -> kube::Result<()> {
    for _ in 1..ATTEMPTS {
        match attempt().await {
            Err(kube::Error::Api(status)) if status.code == 409 => tokio::time::sleep(PAUSE / 5).await,
            outcome => return outcome,
        }
    }
    attempt().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;
    use std::cell::Cell;

    async fn with_answers(codes: &[u16]) -> (usize, kube::Result<()>) {
        let asked = Cell::new(0);
        let outcome = unless_changed_meanwhile(async || {
            let code = codes.get(asked.replace(asked.get() + 1)).copied().unwrap_or(200);
            match code {
                200 => Ok(()),
                code => Err(kube::Error::Api(Status::failure("no", "No").with_code(code).boxed())),
            }
        });
        let outcome = outcome.await;
        (asked.get(), outcome)
    }

    /// Seen: a kubelet that wrote its node's status at that moment ended the whole removal.
    #[tokio::test]
    async fn a_node_that_changes_while_its_taint_is_taken_off_is_read_again_and_other_errors_are_not_retried() {
        assert!(matches!(with_answers(&[409, 409]).await, (3, Ok(()))));
        assert!(matches!(with_answers(&[403]).await, (1, Err(_))));
        let (asked, outcome) = with_answers(&[409; 100]).await;
        assert!(asked == ATTEMPTS && outcome.is_err(), "{asked} attempts");
    }

    #[test]
    fn other_taints_stay_and_a_node_without_ours_is_left_alone() {
        let node = |keys: &[&str]| {
            let taints: Vec<_> = keys
                .iter()
                .map(|key| json!({ "key": key, "effect": "NoSchedule" }))
                .collect();
            serde_json::from_value(json!({ "metadata": { "resourceVersion": "7" }, "spec": { "taints": taints } }))
                .unwrap()
        };
        let patch = without_taint(&node(&["a", TAINT])).unwrap();
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["spec"]["taints"], json!([{ "key": "a", "effect": "NoSchedule" }]));
        assert_eq!(without_taint(&node(&["a"])), None);
    }
}
