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
