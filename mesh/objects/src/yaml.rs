//! Objects from YAML, with the place of what is wrong.

use serde::de::{DeserializeOwned, Deserializer};
use serde_yaml_ng::Value;

use crate::problem::Problem;

/// An object of the document's type: from its text, which knows lines, or from what was made of it.
pub(crate) fn read<T: DeserializeOwned>(value: &Value, source: Option<&str>) -> Result<T, Problem> {
    match source {
        Some(text) => located(serde_yaml_ng::Deserializer::from_str(text)),
        None => located(value.clone()),
    }
}

fn located<'de, T, D>(deserializer: D) -> Result<T, Problem>
where
    T: DeserializeOwned,
    D: Deserializer<'de, Error = serde_yaml_ng::Error>,
{
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let field = error.path().to_string();
        let inner = error.into_inner();
        let line = inner.location().map(|l| l.line());
        // The message begins with the same path and ends with a place within the document; both are said elsewhere.
        let text = inner.to_string();
        let text = text.strip_prefix(&format!("{field}: ")).unwrap_or(&text);
        let message = text.rsplit_once(" at line ").map_or(text, |(head, _)| head).to_owned();
        Problem {
            line,
            field: (field != ".").then_some(field),
            message,
        }
    })
}

/// The same in JSON, where keys are texts.
pub(crate) fn to_json(value: Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => value.into(),
        Value::Number(number) => serde_json::to_value(number).unwrap_or_default(),
        Value::String(text) => text.into(),
        Value::Sequence(items) => items.into_iter().map(to_json).collect(),
        Value::Mapping(fields) => {
            let field = |(key, value): (Value, Value)| (text(key), to_json(value));
            fields.into_iter().map(field).collect()
        }
        Value::Tagged(tagged) => to_json(tagged.value),
    }
}

/// What a key is in JSON. Lists and maps are none, and must not vanish: a field of this name is nobody's.
fn text(key: Value) -> String {
    match key {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text,
        Value::Tagged(tagged) => text(tagged.value),
        Value::Sequence(_) | Value::Mapping(_) => "?".to_owned(),
    }
}
