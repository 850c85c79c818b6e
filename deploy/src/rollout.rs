//! How far an update of the DaemonSet is: which nodes have a pod of the newest version that is ready.
//!
//! `kubectl rollout status`, and the fields of `status` that it reads, count a node by its oldest pod. That one drains for as
//! long as it carries a connection, up to an hour, and is not what anybody waits for: its successor has taken over by then.
//! So this looks at the pods themselves.

use serde_json::Value;
use std::collections::BTreeSet;

const REVISION: &str = "/metadata/labels/controller-revision-hash";

/// How far it is. Pods that are on their way out count nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Nodes that are to have a pod.
    pub wanted: usize,
    /// Nodes that have a pod that is ready, of whatever version.
    pub ready: usize,
    /// Nodes that have a pod of the newest version that is ready.
    pub renewed: usize,
    /// Pods of older versions that nobody has told to stop yet.
    pub outdated: usize,
}

impl Rollout {
    /// Looks at a DaemonSet, the ControllerRevisions of its namespace and the pods there. None while the cluster has not looked at
    /// the DaemonSet as it is now.
    pub fn of(daemon_set: &Value, revisions: &[Value], pods: &[Value]) -> Option<Self> {
        let number = |pointer: &str| daemon_set.pointer(pointer).and_then(Value::as_i64);
        let observed = number("/status/observedGeneration")?;
        if number("/metadata/generation").is_some_and(|generation| observed < generation) {
            return None;
        }
        let newest = revisions
            .iter()
            .filter(|revision| is_owned(revision, daemon_set))
            .max_by_key(|revision| revision["revision"].as_i64())?
            .pointer(REVISION)?;
        let (mut ready, mut renewed, mut outdated) = (BTreeSet::new(), BTreeSet::new(), 0);
        let staying = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        for pod in staying.filter(|pod| is_owned(pod, daemon_set)) {
            let is_newest = pod.pointer(REVISION) == Some(newest);
            outdated += usize::from(!is_newest);
            if is_ready(pod) {
                let node = pod["spec"]["nodeName"].as_str();
                ready.insert(node);
                renewed.extend(is_newest.then_some(node));
            }
        }
        Some(Self {
            wanted: usize::try_from(number("/status/desiredNumberScheduled")?).ok()?,
            ready: ready.len(),
            renewed: renewed.len(),
            outdated,
        })
    }

    /// Whether each node is served by the newest version, and what was before is on its way out.
    pub fn is_done(&self) -> bool {
        self.renewed >= self.wanted && self.outdated == 0
    }
}

fn is_owned(object: &Value, by: &Value) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    owners
        .map(|owner| &owner["uid"])
        .any(|uid| *uid == by["metadata"]["uid"])
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
    ready.any(|condition| condition["status"] == "True")
}

#[cfg(test)]
mod tests {
    use super::Rollout;
    use serde_json::{Value, json};

    fn daemon_set(observed: u32) -> Value {
        json!({
            "metadata": { "uid": "d", "generation": 2 },
            "status": { "observedGeneration": observed, "desiredNumberScheduled": 2 },
        })
    }

    fn revision(hash: &str, number: u32) -> Value {
        let owners = json!([{ "uid": "d" }]);
        json!({
            "metadata": { "labels": { "controller-revision-hash": hash }, "ownerReferences": owners }, "revision": number,
        })
    }

    fn pod(node: &str, hash: &str, ready: bool) -> Value {
        let (owners, labels) = (json!([{ "uid": "d" }]), json!({ "controller-revision-hash": hash }));
        let status = if ready { "True" } else { "False" };
        json!({
            "metadata": { "labels": labels, "ownerReferences": owners },
            "spec": { "nodeName": node },
            "status": { "conditions": [{ "type": "Ready", "status": status }] },
        })
    }

    fn ending(mut pod: Value) -> Value {
        pod["metadata"]["deletionTimestamp"] = json!("2026-11-21T00:00:00Z");
        pod
    }

    fn at(pods: &[Value]) -> Rollout {
        Rollout::of(&daemon_set(2), &[revision("new", 2), revision("old", 1)], pods).unwrap()
    }

    #[test]
    fn an_old_observation_is_not_taken_for_the_new_state() {
        let pods = [pod("n1", "old", true), pod("n2", "old", true)];
        assert_eq!(Rollout::of(&daemon_set(1), &[revision("old", 1)], &pods), None);
        assert!(
            Rollout::of(&daemon_set(2), &[revision("old", 1)], &pods)
                .unwrap()
                .is_done()
        );
    }

    #[test]
    fn a_pod_that_drains_is_not_waited_for_but_one_that_was_not_told_to_is() {
        let renewed = [pod("n1", "new", true), pod("n2", "new", true)];
        assert!(at(&renewed).is_done());
        let draining = [&renewed[..], &[ending(pod("n1", "old", true))]].concat();
        assert!(at(&draining).is_done());
        let serving = [&renewed[..], &[pod("n1", "old", true)]].concat();
        assert_eq!(at(&serving).outdated, 1);
        assert!(!at(&serving).is_done());
    }

    #[test]
    fn each_node_needs_one_of_the_newest_version_that_is_ready() {
        let one = at(&[pod("n1", "new", true), pod("n2", "new", false), pod("n2", "old", true)]);
        assert_eq!((one.wanted, one.ready, one.renewed), (2, 2, 1));
        assert!(!one.is_done());
        // Two on one node are no more than one.
        assert!(!at(&[pod("n1", "new", true), pod("n1", "new", true)]).is_done());
        // What comes back has the highest number again.
        let back = [revision("new", 2), revision("old", 3)];
        let pods = [pod("n1", "old", true), pod("n2", "old", true)];
        assert!(Rollout::of(&daemon_set(2), &back, &pods).unwrap().is_done());
    }

    #[test]
    fn pods_of_others_do_not_count() {
        let mut strange = pod("n2", "new", true);
        strange["metadata"]["ownerReferences"][0]["uid"] = json!("e");
        assert!(!at(&[pod("n1", "new", true), strange]).is_done());
    }
}
