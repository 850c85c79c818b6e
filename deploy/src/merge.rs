//! Kustomize's way of changing an object, as far as our components use it: maps merge, lists of named things merge by name
//! (new ones come first), other lists are replaced, and `$patch: delete` removes the object.

use serde_json::{Map, Value};

use crate::{Document, Error, files::File};

const DIRECTIVE: &str = "$patch";

/// Lays each document of the file over the object of the same name.
pub(crate) fn patch(documents: &mut Vec<Document>, file: &File) -> Result<(), Error> {
    for patch in file.documents()? {
        let Some(position) = documents.iter().position(|document| document.id() == patch.id()) else {
            return Err(Error::Target {
                file: file.path,
                id: patch.id().clone(),
            });
        };
        match patch.value().get(DIRECTIVE).and_then(Value::as_str) {
            None => merge(&mut documents[position].value, patch.into_value()),
            Some("delete") => drop(documents.remove(position)),
            Some(other) => return Err(file.error(format!("{DIRECTIVE}: {other} is not known here"))),
        }
    }
    Ok(())
}

fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => merge_maps(target, patch),
        (Value::Array(target), Value::Array(patch)) if patch.iter().all(|item| name(item).is_some()) => {
            merge_named(target, patch);
        }
        (target, patch) => *target = patch,
    }
}

fn merge_maps(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, value) in patch {
        match target.get_mut(&key) {
            Some(existing) => merge(existing, value),
            None => drop(target.insert(key, value)),
        }
    }
}

fn merge_named(target: &mut Vec<Value>, patch: Vec<Value>) {
    let mut added = Vec::new();
    for item in patch {
        match target.iter_mut().find(|existing| name(existing) == name(&item)) {
            Some(existing) => merge(existing, item),
            None => added.push(item),
        }
    }
    target.splice(..0, added);
}

fn name(item: &Value) -> Option<&str> {
    item.get("name").and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_and_named_things_merge_and_other_lists_are_replaced() {
        let mut target =
            json!({"a": 1, "list": [1, 2], "containers": [{"name": "x", "env": []}, {"name": "y", "image": "i"}]});
        let patch = json!({"b": 2, "list": [3], "containers": [{"name": "y", "image": "j"}, {"name": "z"}]});
        merge(&mut target, patch);
        let merged = json!({
            "a": 1, "b": 2, "list": [3],
            "containers": [{"name": "z"}, {"name": "x", "env": []}, {"name": "y", "image": "j"}]
        });
        assert_eq!(target, merged);
    }
}
