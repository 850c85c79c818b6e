//! Takes the pods of every node out of the mesh before anything is removed.
//!
//! An annotation on our namespace tells every agent. It withdraws capture, takes its CNI plug-in and its pins off the node,
//! and says so in `/pods`: `"leaving": true` while it is at it, `"left": true` when nothing is left. Connections that are
//! open in the tunnel go on until they end by themselves, or until the time is up.

use crate::{
    cluster::{Cluster, Failure, for_each_limited, list, names, names::ports},
    progress::Progress,
    survey::{NodeFacts, placed},
};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(1);
/// How long an agent that shows no sign of leaving is waited for: it may be one that does not know how, or a dead one.
const DEAF: Duration = Duration::from_secs(30);

/// How far a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing of ours runs there.
    Empty,
    /// Nothing of ours runs there now, and what ran there before cannot have cleaned up: the node is away.
    Away,
    /// Its agent has not begun, or does not answer.
    Deaf(String),
    /// So many pods are still captured.
    Leaving(usize),
    /// All pods are out; so many connections are still open in the tunnel.
    Left(usize),
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Connections that were still open in the tunnel when the time was up.
    pub(super) open: usize,
    /// Nodes that have not said that nothing of ours is left there, and why.
    pub(super) behind: Vec<(String, String)>,
}

/// Waits for all nodes.
pub(super) async fn all_nodes(cluster: &Cluster, patience: Duration, progress: &Progress) -> Result<Outcome, Failure> {
    let annotation = json!({ "metadata": { "annotations": { names::UNINSTALLING: "true" } } });
    cluster
        .all::<Namespace>()
        .patch(names::NAMESPACE, &PatchParams::default(), &Patch::Merge(&annotation))
        .await
        .map_err(|error| Failure::of("telling the nodes that their pods leave the mesh", error))?;
    let step = progress.step("pods leave the mesh");
    let began = Instant::now();
    loop {
        let stages = look(cluster).await?;
        let verdict = judged(&stages, began.elapsed(), patience);
        match verdict {
            Verdict::Wait(said) => step.say(said),
            Verdict::Done(said) => {
                step.done(said);
                let behind = behind(stages);
                return Ok(Outcome { open: 0, behind });
            }
            Verdict::Late { open, said } => {
                step.failed(said);
                let behind = behind(stages);
                return Ok(Outcome { open, behind });
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn look(cluster: &Cluster) -> Result<Vec<(String, Stage)>, Failure> {
    let (nodes_of, pods_of) = (cluster.all(), cluster.ours());
    let ours = ListParams::default().labels("app.kubernetes.io/name=culvert-node");
    let nodes: Vec<Node> = list(&nodes_of, &ListParams::default(), "listing nodes").await?;
    let pods: Vec<Pod> = list(&pods_of, &ours, "listing our pods").await?;
    Ok(for_each_limited(placed(&nodes, &pods), |node| async move {
        let stage = stage(cluster, &node).await;
        (node.name, stage)
    })
    .await)
}

async fn stage(cluster: &Cluster, node: &NodeFacts) -> Stage {
    let Some(pod) = node.pod.as_ref().map(ResourceExt::name_any) else {
        return match node.is_ready {
            true => Stage::Empty,
            false => Stage::Away,
        };
    };
    if !node.is_ready {
        return Stage::Deaf("the node is not ready".to_owned());
    }
    let said = cluster.admin_page(&pod, ports::AGENT, "/pods").await;
    let said: Value = match said.and_then(|page| page.json()) {
        Ok(said) => said,
        Err(unanswered) => return Stage::Deaf(unanswered.to_string()),
    };
    if said["left"] != true {
        return still_there(&said);
    }
    let open = cluster.admin_page(&pod, ports::PROXY_ADMIN, "/connections").await;
    let open = open.and_then(|page| page.json::<Value>());
    // A proxy that does not answer carries nothing that could be waited for.
    Stage::Left(open.map_or(0, |value| value["connections"].as_array().map_or(0, Vec::len)))
}

fn still_there(said: &Value) -> Stage {
    if said["leaving"] != true {
        return Stage::Deaf("its agent has not begun".to_owned());
    }
    let pods = said["pods"].as_array().into_iter().flatten();
    Stage::Leaving(
        pods.filter(|pod| matches!(pod["state"].as_str(), Some("captured" | "waiting" | "leaving")))
            .count(),
    )
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Wait(String),
    Done(String),
    Late { open: usize, said: String },
}

fn judged(nodes: &[(String, Stage)], elapsed: Duration, patience: Duration) -> Verdict {
    let (mut left, mut open, mut captured, mut ours) = (0, 0, 0, 0);
    let mut deaf = Vec::new();
    for (name, stage) in nodes {
        ours += usize::from(!matches!(stage, Stage::Empty | Stage::Away));
        match stage {
            Stage::Empty | Stage::Away => {}
            Stage::Deaf(reason) => deaf.push(format!("{name}: {reason}")),
            Stage::Leaving(pods) => captured += pods,
            Stage::Left(connections) => {
                left += 1;
                open += connections;
            }
        }
    }
    let mut said = format!("{left} of {ours} nodes have left, {captured} pods still captured, {open} connections open");
    if !deaf.is_empty() {
        said += &format!("; not leaving: {}", deaf.join("; "));
    }
    let all_told = left + deaf.len() == ours;
    let nobody_else_comes = deaf.is_empty() || elapsed >= DEAF;
    if all_told && nobody_else_comes && open == 0 {
        return Verdict::Done(said);
    }
    if elapsed >= patience {
        return Verdict::Late { open, said };
    }
    Verdict::Wait(said)
}

/// The nodes that are left with something of ours.
fn behind(nodes: Vec<(String, Stage)>) -> Vec<(String, String)> {
    let reason = |stage| match stage {
        Stage::Empty | Stage::Left(_) => None,
        Stage::Away => Some("the node is not ready, and no agent of ours is on it".to_owned()),
        Stage::Deaf(reason) => Some(reason),
        Stage::Leaving(pods) => Some(format!("{pods} pods were still captured")),
    };
    let named = |(name, stage)| reason(stage).map(|reason| (name, reason));
    nodes.into_iter().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::{Stage, Verdict, behind, judged, still_there};
    use serde_json::json;
    use std::time::Duration;

    fn at(seconds: u64, stages: &[Stage]) -> Verdict {
        let nodes: Vec<_> = stages.iter().map(|stage| ("n".to_owned(), stage.clone())).collect();
        judged(&nodes, Duration::from_secs(seconds), Duration::from_secs(600))
    }

    #[test]
    fn open_connections_are_waited_for_until_the_time_is_up() {
        assert!(matches!(at(0, &[Stage::Left(2)]), Verdict::Wait(_)));
        assert!(matches!(at(0, &[Stage::Left(0), Stage::Empty]), Verdict::Done(_)));
        assert!(matches!(at(600, &[Stage::Left(2)]), Verdict::Late { open: 2, .. }));
    }

    #[test]
    fn a_node_that_does_not_hear_is_given_a_little_time_and_then_named() {
        let stages = [Stage::Left(0), Stage::Deaf("gone".to_owned())];
        assert!(matches!(at(1, &stages), Verdict::Wait(_)));
        let Verdict::Done(said) = at(30, &stages) else {
            panic!("a deaf node must not hold everything up")
        };
        assert!(said.contains("n: gone"), "{said}");
    }

    #[test]
    fn a_node_that_was_away_is_named_as_left_behind_and_not_waited_for() {
        let stages = [
            ("a".to_owned(), Stage::Left(3)),
            ("b".to_owned(), Stage::Away),
            ("c".to_owned(), Stage::Deaf("the node is not ready".to_owned())),
            ("d".to_owned(), Stage::Empty),
            ("e".to_owned(), Stage::Leaving(2)),
        ];
        assert!(matches!(at(0, &[Stage::Away, Stage::Left(0)]), Verdict::Done(_)));
        let behind = behind(stages.to_vec());
        let names: Vec<&str> = behind.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["b", "c", "e"]);
        assert!(behind[2].1.contains("2 pods"), "{behind:?}");
    }

    #[test]
    fn no_node_is_no_wait() {
        assert!(matches!(at(0, &[]), Verdict::Done(_)));
    }

    #[test]
    fn an_agent_says_how_many_pods_it_still_holds() {
        let pods = json!([{ "state": "captured" }, { "state": "outside" }, { "state": "leaving" }]);
        assert_eq!(
            still_there(&json!({ "leaving": true, "pods": pods })),
            Stage::Leaving(2)
        );
        assert!(matches!(still_there(&json!({ "pods": pods })), Stage::Deaf(_)));
    }
}
