//! The status of a policy that is attached to objects (GEP-713): `ancestors`, an entry of ours for each object that it is for, beside those
//! of other controllers. An entry of ours goes with its target.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::entries;
use crate::cluster::waypoints::CONTROLLER;
use crate::model::{ParentStatus, RouteStatus};

/// The most entries that the Gateway API allows.
const MOST: usize = 16;

/// What is to be written into a status; none if all of it is there.
pub(super) fn due(status: &Value, said: &RouteStatus, now: Timestamp) -> Option<Value> {
    let before = status["ancestors"].as_array().cloned().unwrap_or_default();
    let is_ours = |entry: &&Value| entry["controllerName"] == CONTROLLER;
    let mut ancestors: Vec<Value> = before.iter().filter(|entry| !is_ours(entry)).cloned().collect();
    for target in &said.parents {
        let reference = reference(target);
        let there = before
            .iter()
            .filter(is_ours)
            .find(|entry| entry["ancestorRef"] == reference);
        let conditions = there.map_or(&Value::Null, |entry| &entry["conditions"]);
        let conditions: Vec<Value> = target
            .conditions
            .iter()
            .map(|condition| entries::of_condition(condition, said.generation, conditions, now))
            .collect();
        let entry = json!({ "ancestorRef": reference, "controllerName": CONTROLLER, "conditions": conditions });
        if !ancestors.contains(&entry) {
            ancestors.push(entry);
        }
    }
    // More cannot be said, and the API server would refuse all of it.
    ancestors.truncate(MOST);
    let is_there = ancestors.len() == before.len() && ancestors.iter().all(|entry| before.contains(entry));
    (!is_there).then(|| json!({ "ancestors": ancestors }))
}

fn reference(target: &ParentStatus) -> Value {
    let mut reference = json!({ "group": target.group, "kind": target.kind, "name": target.name });
    let rest = [("namespace", &target.namespace), ("sectionName", &target.section)];
    for (field, value) in rest {
        if let Some(value) = value {
            reference[field] = value.as_str().into();
        }
    }
    reference
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Condition;

    fn said(reason: &'static str) -> RouteStatus {
        let target = ParentStatus {
            group: String::new(),
            kind: "Service".to_owned(),
            namespace: Some("shop".to_owned()),
            name: "web".to_owned(),
            section: None,
            port: None,
            conditions: vec![Condition {
                kind: "Accepted",
                holds: reason == "Accepted",
                reason,
                message: String::new(),
            }],
        };
        RouteStatus {
            generation: Some(1),
            parents: vec![target],
        }
    }

    #[test]
    fn an_entry_is_written_once_follows_what_is_said_and_leaves_those_of_others() {
        let now = Timestamp::UNIX_EPOCH;
        let other = json!({"ancestorRef": {"name": "web"}, "controllerName": "other", "conditions": []});
        let first = due(&json!({"ancestors": [other]}), &said("Accepted"), now).unwrap();
        assert_eq!(first["ancestors"][0], other);
        let entry = &first["ancestors"][1];
        assert_eq!(
            entry["ancestorRef"],
            json!({"group": "", "kind": "Service", "name": "web", "namespace": "shop"})
        );
        assert_eq!(entry["conditions"][0]["status"], "True");
        assert_eq!(due(&first, &said("Accepted"), now), None);
        let second = due(&first, &said("Conflicted"), now).unwrap();
        assert_eq!(second["ancestors"][1]["conditions"][0]["reason"], "Conflicted");
        let none = due(&second, &RouteStatus::default(), now).unwrap();
        assert_eq!(none, json!({"ancestors": [other]}));
    }
}
