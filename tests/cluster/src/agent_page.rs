//! What an agent's page says.

use serde_json::Value;

/// What an agent's page says of a pod.
pub(crate) fn state_in(page: &Value, namespace: &str, pod: &str) -> Option<String> {
    let mut pods = page["pods"].as_array()?.iter();
    let found = pods.find(|one| one["namespace"] == namespace && one["name"] == pod)?;
    found["state"].as_str().map(str::to_owned)
}
