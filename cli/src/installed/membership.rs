//! Whether each pod is where its labels want it: the labels' meaning (shared with agent and controller) held against what
//! the agents say.

use crate::survey::Survey;
use culvert_objects::{Enrolment, enrolment, is_host_network};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::Value;
use std::collections::BTreeMap;

/// Where a pod stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    /// It should be in, and is; perhaps with a fault.
    In(Option<String>),
    /// It should be in, and is on its way.
    Waiting(String),
    /// It should be in, and is not.
    Failed(String),
    /// It should be in, and no agent can take it in: why not concerns all pods of the node.
    Unserved {
        /// The node.
        node: String,
        /// What is the matter there.
        why: String,
    },
    /// Its namespace is in, and it opts out or cannot be in.
    Out,
    /// Nothing asks for it.
    Unlabelled,
}

/// Where every pod of the cluster stands, by namespace and name.
pub(crate) fn membership(survey: &Survey) -> BTreeMap<(String, String), Membership> {
    let agents: BTreeMap<&str, Result<BTreeMap<&str, &Value>, String>> = survey
        .nodes
        .iter()
        .map(|node| (node.name.as_str(), known_to_agent(node)))
        .collect();
    let live = survey.pods.iter().filter(|pod| is_live(pod));
    live.map(|pod| {
        let key = (pod.namespace().unwrap_or_default(), pod.name_any());
        let stands = stands(survey, &agents, pod, &key.0);
        (key, stands)
    })
    .collect()
}

/// One that has ended takes part in nothing.
fn is_live(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed")) && pod.metadata.deletion_timestamp.is_none()
}

/// The pods of a node by UID, as its agent tells; or why it does not.
fn known_to_agent(node: &crate::survey::NodeFacts) -> Result<BTreeMap<&str, &Value>, String> {
    let Some(report) = &node.report else {
        return Err("no agent runs there".to_owned());
    };
    let page = report
        .agent
        .as_ref()
        .map_err(|error| format!("the agent does not answer: {error}"))?;
    let pods = page["pods"].as_array().into_iter().flatten();
    Ok(pods.filter_map(|pod| Some((pod["uid"].as_str()?, pod))).collect())
}

fn stands(
    survey: &Survey,
    agents: &BTreeMap<&str, Result<BTreeMap<&str, &Value>, String>>,
    pod: &Pod,
    namespace: &str,
) -> Membership {
    let namespace_labels = survey.labels_of(namespace);
    let is_in_namespace = matches!(enrolment(namespace_labels, &Pod::default()), Ok(Enrolment::Ambient));
    match enrolment(namespace_labels, pod) {
        Ok(Enrolment::None) if is_in_namespace => return Membership::Out,
        Ok(Enrolment::None) => return Membership::Unlabelled,
        Err(unknown) if is_host_network(pod) => {
            drop(unknown);
            return Membership::Unlabelled;
        }
        Err(unknown) => return Membership::Failed(unknown.to_string()),
        Ok(Enrolment::Ambient) => {}
    }
    let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) else {
        return Membership::Waiting("has no node yet".to_owned());
    };
    let known = match agents.get(node) {
        Some(Ok(known)) => known,
        Some(Err(reason)) => {
            return Membership::Unserved {
                node: node.to_owned(),
                why: reason.clone(),
            };
        }
        None => return Membership::Failed(format!("its node {node} is unknown")),
    };
    let uid = pod.uid().unwrap_or_default();
    let has_started = pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some());
    match known.get(uid.as_str()) {
        None if has_started => Membership::Waiting("its node's agent does not know it yet".to_owned()),
        None => Membership::Waiting("is being started".to_owned()),
        Some(told) => {
            let problem = told["error"].as_str().unwrap_or_default();
            match told["state"].as_str().unwrap_or_default() {
                "captured" => Membership::In(
                    told["error"]
                        .as_str()
                        .filter(|text| !text.is_empty())
                        .map(str::to_owned),
                ),
                "waiting" => Membership::Waiting(or(problem, "waits for the node's proxy")),
                "leaving" => Membership::Waiting("is still on its way out".to_owned()),
                state => Membership::Failed(or(problem, &format!("the agent has it as {state}"))),
            }
        }
    }
}

fn or(problem: &str, otherwise: &str) -> String {
    match problem {
        "" => otherwise.to_owned(),
        problem => problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Membership, membership};
    use crate::cluster::Unanswered;
    use crate::survey::{NodeFacts, NodeReport, Survey};
    use serde_json::{Value, from_value, json};

    fn report(agent: Result<Value, Unanswered>) -> Option<NodeReport> {
        let silent = Unanswered("silent".to_owned());
        Some(NodeReport {
            agent,
            ..NodeReport::unanswered(&silent)
        })
    }

    fn pod(name: &str, labels: &Value, node: &str) -> k8s_openapi::api::core::v1::Pod {
        from_value(json!({
            "metadata": { "namespace": "shop", "name": name, "uid": name, "labels": labels },
            "spec": { "nodeName": node, "containers": [] },
            "status": { "phase": "Running", "podIP": "198.19.1.2" },
        }))
        .unwrap()
    }

    fn survey(agent: Result<Value, Unanswered>, pods: Vec<k8s_openapi::api::core::v1::Pod>) -> Survey {
        let namespace = json!({ "metadata": { "name": "shop", "labels": { "culvert.dev/mesh": "ambient" } } });
        Survey {
            namespaces: vec![from_value(namespace).unwrap()],
            nodes: vec![NodeFacts {
                name: "n".to_owned(),
                report: report(agent),
                ..NodeFacts::default()
            }],
            pods,
            ..Survey::default()
        }
    }

    fn of(survey: &Survey, name: &str) -> Membership {
        membership(survey)[&("shop".to_owned(), name.to_owned())].clone()
    }

    #[test]
    fn each_pod_is_held_against_what_its_agent_says() {
        let told = json!({ "pods": [
            { "uid": "in", "state": "captured", "error": null },
            { "uid": "bad", "state": "failed", "error": "its network namespace vanished" },
        ] });
        let none = json!({});
        let out = json!({ "culvert.dev/mesh": "none" });
        let survey = survey(
            Ok(told),
            vec![
                pod("in", &none, "n"),
                pod("bad", &none, "n"),
                pod("new", &none, "n"),
                pod("out", &out, "n"),
            ],
        );
        assert_eq!(of(&survey, "in"), Membership::In(None));
        assert_eq!(
            of(&survey, "bad"),
            Membership::Failed("its network namespace vanished".to_owned())
        );
        assert!(matches!(of(&survey, "new"), Membership::Waiting(_)));
        assert_eq!(of(&survey, "out"), Membership::Out);
    }

    #[test]
    fn a_mistyped_label_is_a_failure_and_a_silent_agent_is_the_reason() {
        let mistyped = json!({ "culvert.dev/mesh": "Ambient" });
        let silent = Err(Unanswered("no answer within 5 s".to_owned()));
        let survey = survey(silent, vec![pod("a", &json!({}), "n"), pod("typo", &mistyped, "n")]);
        assert!(matches!(of(&survey, "a"), Membership::Unserved { why, .. } if why.contains("no answer")));
        assert!(matches!(of(&survey, "typo"), Membership::Failed(why) if why.contains("Ambient")));
    }
}
