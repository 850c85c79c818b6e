//! Cells of tables, from JSON.

use serde_json::Value;

/// What people see of a service.
pub(crate) const SERVICE_HEADER: &[&str] = &["namespace", "name", "addresses", "ports", "endpoints"];

/// The list itself, or the list under this name; the values of an object are a list, too.
pub(crate) fn items<'a>(value: &'a Value, name: &str) -> Vec<&'a Value> {
    match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(fields) => match fields.get(name) {
            Some(inner) => items(inner, name),
            None => fields.values().filter(|value| value.is_object()).collect(),
        },
        _ => Vec::new(),
    }
}

pub(crate) fn cells(item: &Value, fields: &[&str]) -> Vec<String> {
    fields
        .iter()
        .map(|field| item.get(field).map_or_else(|| "-".to_owned(), text))
        .collect()
}

/// A value as a cell shows it.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(is) => if *is { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Array(list) if list.is_empty() => "-".to_owned(),
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name}={}", text(value)))
            .collect::<Vec<_>>()
            .join(" "),
    }
}
