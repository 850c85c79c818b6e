//! Which fields of an object are not served.

use serde_json::Value;

use super::entry::{Field, Known, State, UNKNOWN_FIELD};

/// What is everybody's, and what others write.
const NOT_CONFIGURATION: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];

/// Each field of an object that its kind's table says is not served, and each that the table does not name: the path, as
/// `spec.rules[0].to[1].operation.paths`, and what happens instead. What is below such a field is not named again. Fields
/// without value (null, an empty list, an empty text where the text itself is not served) are as if they were not there.
///
/// Of a kind of which nothing is served every field is unknown: ask [`Known::is_served`] first.
pub fn unserved_fields(known: &Known, object: &Value) -> Vec<(String, &'static str)> {
    let states = unserved_states(known, object).into_iter();
    states
        .filter_map(|(path, state)| Some((path, state.instead()?)))
        .collect()
}

/// The same, and whether the field is refused or ignored.
pub fn unserved_states(known: &Known, object: &Value) -> Vec<(String, State)> {
    let mut walk = Walk {
        fields: known.fields,
        found: Vec::new(),
    };
    for (name, value) in object.as_object().into_iter().flatten() {
        if !NOT_CONFIGURATION.contains(&name.as_str()) {
            walk.field(name, name, value);
        }
    }
    walk.found
}

struct Walk {
    fields: &'static [Field],
    found: Vec<(String, State)>,
}

impl Walk {
    /// Looks at the value of a field: `pattern` is its path as the table has it, `path` as people write it.
    fn field(&mut self, pattern: &str, path: &str, value: &Value) {
        let is_empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        if is_empty {
            return;
        }
        let Some(field) = self.fields.iter().find(|field| field.path == pattern) else {
            return self.found.push((path.to_owned(), State::Ignored(UNKNOWN_FIELD)));
        };
        if field.state != State::Served {
            // In Istio's kinds a text that is empty is one that is not there.
            if value.as_str() == Some("") {
                return;
            }
            return self.found.push((path.to_owned(), field.state));
        }
        match value {
            Value::String(text) => {
                if let Some(state) = field.of_value(text).filter(|state| *state != State::Served) {
                    self.found.push((path.to_owned(), state));
                }
            }
            Value::Object(_) => self.below(pattern, path, value),
            Value::Array(items) => {
                let pattern = format!("{pattern}[]");
                for (index, item) in items.iter().enumerate() {
                    // A list within a list has no fields. What is wrong with it is said by whoever reads the object by its type.
                    self.below(&pattern, &format!("{path}[{index}]"), item);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn below(&mut self, pattern: &str, path: &str, value: &Value) {
        let any = format!("{pattern}.*");
        let is_map = self.fields.iter().any(|field| field.path == any);
        for (name, value) in value.as_object().into_iter().flatten() {
            if is_map {
                self.field(&any, &format!("{path}[{name}]"), value);
            } else {
                self.field(&format!("{pattern}.{name}"), &format!("{path}.{name}"), value);
            }
        }
    }
}

impl Field {
    /// What holds for a value of the field; nothing is said where a value is as good as another.
    fn of_value(&self, text: &str) -> Option<State> {
        let listed = self.values.iter().find(|(value, _)| *value == text);
        listed.map(|(_, state)| *state).or(self.other_values)
    }
}
