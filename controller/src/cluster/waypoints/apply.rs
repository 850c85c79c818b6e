//! Whether an object in the cluster is as it should be.

use serde_json::Value;

/// Whether all that is wanted is there. What others have added, and what the API server has filled in, does not count.
pub(super) fn holds(wanted: &Value, there: &Value) -> bool {
    match (wanted, there) {
        (Value::Object(wanted), Value::Object(there)) => wanted
            .iter()
            .all(|(key, value)| there.get(key).is_some_and(|there| holds(value, there))),
        (Value::Array(wanted), Value::Array(there)) if !wanted.is_empty() && wanted.iter().all(is_named) => {
            wanted.iter().all(|item| {
                let mut same = there.iter().filter(|one| one.get("name") == item.get("name"));
                same.any(|one| holds(item, one))
            })
        }
        (Value::Array(wanted), Value::Array(there)) => {
            wanted.len() == there.len() && wanted.iter().zip(there).all(|(wanted, there)| holds(wanted, there))
        }
        (wanted, there) => wanted == there,
    }
}

/// Whether lists of such items are merged by name.
fn is_named(item: &Value) -> bool {
    item.get("name").is_some_and(Value::is_string)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::holds;

    #[test]
    fn what_others_add_is_no_drift_and_what_they_change_is() {
        let wanted = json!({
            "metadata": { "labels": { "a": "1" } },
            "spec": { "containers": [{ "name": "waypoint", "image": "i" }], "drop": ["ALL"] },
        });
        let mut there = json!({
            "metadata": { "labels": { "a": "1", "theirs": "x" }, "uid": "u" },
            "spec": {
                "replicas": 3,
                "containers": [{ "name": "injected" }, { "name": "waypoint", "image": "i", "terminationMessagePath": "/dev/x" }],
                "drop": ["ALL"],
            },
            "status": {},
        });
        assert!(holds(&wanted, &there));
        there["spec"]["containers"][1]["image"] = json!("another");
        assert!(!holds(&wanted, &there));
        there["spec"]["containers"][1]["image"] = json!("i");
        there["spec"]["drop"] = json!(["ALL", "more"]);
        assert!(!holds(&wanted, &there), "a list of words is replaced as a whole");
        there["spec"]["drop"] = json!(["ALL"]);
        there["metadata"]["labels"] = json!({});
        assert!(!holds(&wanted, &there));
    }
}
