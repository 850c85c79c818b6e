//! The status of a route: `parents`, an entry of ours for each parent that is the mesh's to speak of, beside those of other
//! controllers. An entry of ours goes with its parent. That of a policy is the same, of `ancestors`.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::in_force::shortened;
use crate::cluster::waypoints::CONTROLLER;
use crate::model::{Condition, ParentStatus, RouteStatus};

/// Where entries are in a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    list: &'static str,
    reference: &'static str,
    /// The most entries that the Gateway API allows.
    most: usize,
}

/// Those of routes.
pub(super) const PARENTS: Place = Place {
    list: "parents",
    reference: "parentRef",
    most: 32,
};
/// Those of policies.
pub(super) const ANCESTORS: Place = Place {
    list: "ancestors",
    reference: "ancestorRef",
    most: 16,
};

const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// What is to be written into a status; none if all of it is there.
pub(super) fn due(status: &Value, place: Place, said: &RouteStatus, now: Timestamp) -> Option<Value> {
    let before = status[place.list].as_array().cloned().unwrap_or_default();
    let (ours, others): (Vec<&Value>, Vec<&Value>) = before.iter().partition(|entry| is_ours(entry));
    let mut parents: Vec<Value> = others.into_iter().cloned().collect();
    for parent in &said.parents {
        let reference = reference(parent);
        let there = ours.iter().find(|entry| is_same(&entry[place.reference], &reference));
        let conditions = there.map(|entry| &entry["conditions"]).unwrap_or(&Value::Null);
        let conditions: Vec<Value> = parent
            .conditions
            .iter()
            .map(|condition| of_condition(condition, said.generation, conditions, now))
            .collect();
        let entry = json!({ place.reference: reference, "controllerName": CONTROLLER, "conditions": conditions });
        // Two parents that are written alike are one.
        if !parents.contains(&entry) {
            parents.push(entry);
        }
    }
    // More cannot be said, and the API server would refuse all of it.
    parents.truncate(place.most);
    let is_said = |entry: &Value| before.iter().any(|there| is_equal(place, there, entry));
    let is_there = parents.len() == before.len() && parents.iter().all(is_said);
    (!is_there).then(|| json!({ place.list: parents }))
}

/// What is to be written into the status of an object whose conditions are about it as a whole, beside its one parent; none if all of it is
/// there, or its parent is not ours to speak of. Conditions of other types stay.
pub(super) fn due_of_object(status: &Value, said: &RouteStatus, now: Timestamp) -> Option<Value> {
    let before = status["conditions"].as_array().cloned().unwrap_or_default();
    let conditions = said.parents.first()?.conditions.iter();
    let ours: Vec<Value> = conditions
        .map(|condition| of_condition(condition, said.generation, &status["conditions"], now))
        .collect();
    if ours.iter().all(|condition| before.contains(condition)) {
        return None;
    }
    let is_other = |there: &Value| ours.iter().all(|condition| condition["type"] != there["type"]);
    let others = before.into_iter().filter(is_other);
    let conditions: Vec<Value> = others.chain(ours.iter().cloned()).collect();
    Some(json!({ "conditions": conditions }))
}

fn is_ours(entry: &Value) -> bool {
    entry["controllerName"] == CONTROLLER
}

/// A parent as the route writes it, with the group and the kind that it means.
fn reference(parent: &ParentStatus) -> Value {
    let mut written = Map::new();
    written.insert("group".to_owned(), parent.group.as_str().into());
    written.insert("kind".to_owned(), parent.kind.as_str().into());
    written.insert("name".to_owned(), parent.name.as_str().into());
    let namespace = parent.namespace.as_deref().map(Value::from);
    let section = parent.section.as_deref().map(Value::from);
    let rest = [
        ("namespace", namespace),
        ("sectionName", section),
        ("port", parent.port.map(Value::from)),
    ];
    written.extend(
        rest.into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?))),
    );
    written.into()
}

/// Whether two references are to the same; what one leaves out is what the other writes out.
fn is_same(a: &Value, b: &Value) -> bool {
    let fields = ["name", "namespace", "sectionName", "port"];
    let or = |value: &Value, default: &str| value.as_str().unwrap_or(default).to_owned();
    fields.iter().all(|field| a[*field] == b[*field])
        && or(&a["group"], GATEWAY_API) == or(&b["group"], GATEWAY_API)
        && or(&a["kind"], "Gateway") == or(&b["kind"], "Gateway")
}

/// Whether an entry says what is to be said, whenever that came to be so.
fn is_equal(place: Place, there: &Value, entry: &Value) -> bool {
    is_same(&there[place.reference], &entry[place.reference])
        && there["controllerName"] == entry["controllerName"]
        && there["conditions"] == entry["conditions"]
}

/// A condition, whose time changes with its status alone.
fn of_condition(condition: &Condition, generation: Option<i64>, before: &Value, now: Timestamp) -> Value {
    let status = if condition.holds { "True" } else { "False" };
    let mut before = before.as_array().into_iter().flatten();
    let since = before
        .find(|there| there["type"] == condition.kind && there["status"] == status)
        .map(|there| there["lastTransitionTime"].clone())
        .filter(Value::is_string);
    let mut said = json!({
        "type": condition.kind,
        "status": status,
        "reason": condition.reason,
        "message": shortened(condition.message.clone()),
        "lastTransitionTime": since.unwrap_or_else(|| now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()),
    });
    if let Some(generation) = generation {
        said["observedGeneration"] = generation.into();
    }
    said
}

#[cfg(test)]
mod tests;
