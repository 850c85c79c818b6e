//! A condition in the status of each of Istio's objects: whether all that it says is in force, and if not, what holds instead.
//!
//! | `type` | `status` | `reason` | `message` |
//! |---|---|---|---|
//! | `culvert.dev/InForce` | `True` | `AsWritten` | empty, or what somebody may want to know as well |
//! | | `False` | `NotAsWritten` | each field, and what holds instead of what it says |
//! | | `False` | `RefusedByProxy` | which waypoint or node does not take what was made of the object, and its message; also what the row above has |
//!
//! A ServiceEntry's status also has the addresses that were chosen for its hosts, in Istio's form: `addresses`, a list of `host`
//! and `value`. There all replicas find them again, and those that come after.

use culvert_objects::Finding;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::model::{IN_FORCE, REFUSED_BY_PROXY};

/// The longest message that Kubernetes' own conditions may have, bytes.
pub(super) const LONGEST: usize = 32_768;

/// Whether an object is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InForce {
    /// As it is written.
    holds: bool,
    reason: &'static str,
    message: String,
}

impl InForce {
    /// By all that is said of the object: what only informs leaves it in force. `is_refused` is whether a proxy refuses some of it.
    pub(super) fn of<'a>(findings: impl Iterator<Item = &'a Finding> + Clone, is_refused: bool) -> Self {
        let holds = !findings.clone().any(|finding| finding.severity.departs());
        let reason = match (holds, is_refused) {
            (true, _) => "AsWritten",
            (false, true) => REFUSED_BY_PROXY,
            (false, false) => "NotAsWritten",
        };
        let texts = findings.map(|finding| match &finding.field {
            Some(field) => format!("{field}: {}", finding.message),
            None => finding.message.clone(),
        });
        Self {
            holds,
            reason,
            message: shortened(texts.collect::<Vec<_>>().join("; ")),
        }
    }
}

/// As long as the message of a condition may be.
pub(in crate::cluster) fn shortened(mut message: String) -> String {
    if message.len() > LONGEST {
        message.truncate(message.floor_char_boundary(LONGEST));
    }
    message
}

/// What is to be written into a status; none if all of it is there. Addresses that nobody asks for any more stay: they are not read.
pub(super) fn due(status: &Value, said: &InForce, addresses: &[Value], now: Timestamp) -> Option<Value> {
    let mut due = serde_json::Map::new();
    if let Some(conditions) = with_condition(status, said, now) {
        due.insert("conditions".to_owned(), conditions.into());
    }
    let has = status["addresses"].as_array().is_some_and(|before| before == addresses);
    if !addresses.is_empty() && !has {
        due.insert("addresses".to_owned(), addresses.into());
    }
    (!due.is_empty()).then(|| due.into())
}

/// The conditions of a status with ours as it must be; none if it is so already.
fn with_condition(status: &Value, said: &InForce, now: Timestamp) -> Option<Vec<Value>> {
    let InForce { holds, reason, message } = said;
    let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let holds = if *holds { "True" } else { "False" };
    let at = conditions.iter().position(|condition| condition["type"] == IN_FORCE);
    let before = at.map(|at| conditions.remove(at)).unwrap_or_default();
    if before["status"] == holds && before["reason"] == *reason && before["message"] == *message {
        return None;
    }
    let now = Value::from(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let is_same = before["status"] == holds && before["lastTransitionTime"].is_string();
    conditions.push(json!({
        "type": IN_FORCE,
        "status": holds,
        "reason": reason,
        "message": message,
        "lastTransitionTime": if is_same { before["lastTransitionTime"].clone() } else { now },
    }));
    Some(conditions)
}

#[cfg(test)]
mod tests;
