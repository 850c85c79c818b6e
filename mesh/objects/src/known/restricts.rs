//! Whether an object of a kind that is not served would keep somebody out.

use serde_json::Value;

/// When an object of a kind restricts who reaches what it binds. In doubt it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restricts {
    /// No object of the kind does.
    Never,
    /// Every object does.
    Always,
    /// Those do whose spec has one of these texts in a field.
    Where {
        /// A field of the spec.
        field: &'static str,
        /// The texts.
        one_of: &'static [&'static str],
    },
    /// Those do whose spec contains one of these texts anywhere.
    Mentioning(&'static [&'static str]),
}

impl Restricts {
    /// Whether an object with this spec does.
    pub fn applies(self, spec: &Value) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Where { field, one_of } => spec
                .get(field)
                .and_then(Value::as_str)
                .is_some_and(|text| one_of.contains(&text)),
            Self::Mentioning(words) => mentions(spec, words),
        }
    }
}

/// Whether a text in it, or the name of a field, contains one of the words.
fn mentions(value: &Value, words: &[&str]) -> bool {
    let has = |text: &str| words.iter().any(|word| text.contains(word));
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        match value {
            Value::String(text) if has(text) => return true,
            Value::Array(items) => open.extend(items),
            Value::Object(fields) => {
                if fields.keys().any(|name| has(name)) {
                    return true;
                }
                open.extend(fields.values());
            }
            _ => {}
        }
    }
    false
}
