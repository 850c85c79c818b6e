//! What entries in the status of routes and of policies have in common.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::in_force::shortened;
use crate::model::Condition;

/// A condition, whose time changes with its status alone.
pub(super) fn of_condition(condition: &Condition, generation: Option<i64>, before: &Value, now: Timestamp) -> Value {
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
