//! Fields of YAML, each taken once: what remains is not known, and is noted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

/// The text cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadYaml(pub(super) String);

/// Something that is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Path of the field within the configuration.
    pub field: String,
    /// What is wrong, and what holds.
    pub message: String,
}

/// The fields of one map.
pub(super) struct Fields<'a, 'n> {
    left: BTreeMap<&'a str, &'a Value>,
    at: String,
    notes: &'n mut Vec<Note>,
    /// Whether a field was wrong.
    is_bad: bool,
}

impl<'a, 'n> Fields<'a, 'n> {
    pub(super) fn new(map: &'a Map<String, Value>, at: String, notes: &'n mut Vec<Note>) -> Self {
        let left = map.iter().filter(|(_, value)| !value.is_null());
        Self {
            left: left.map(|(name, value)| (name.as_str(), value)).collect(),
            at,
            notes,
            is_bad: false,
        }
    }

    /// The path of a field.
    pub(super) fn path(&self, name: &str) -> String {
        match self.at.as_str() {
            "" => name.to_owned(),
            at => format!("{at}.{name}"),
        }
    }

    pub(super) fn note(&mut self, name: &str, message: impl Into<String>) {
        let field = if name.is_empty() {
            self.at.clone()
        } else {
            self.path(name)
        };
        self.notes.push(Note {
            field,
            message: message.into(),
        });
    }

    fn bad(&mut self, name: &str, message: &str) {
        self.note(name, message);
        self.is_bad = true;
    }

    pub(super) fn take(&mut self, name: &str) -> Option<&'a Value> {
        self.left.remove(name)
    }

    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text.clone()),
            // `statusOnError: 503` is what people write.
            Value::Number(number) => Some(number.to_string()),
            _ => {
                self.bad(name, "it is not a text");
                None
            }
        }
    }

    pub(super) fn flag(&mut self, name: &str) -> bool {
        match self.take(name) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => {
                self.bad(name, "it is neither true nor false");
                false
            }
        }
    }

    pub(super) fn number(&mut self, name: &str) -> Option<u32> {
        let number = self.take(name)?.as_u64().and_then(|number| number.try_into().ok());
        if number.is_none() {
            self.bad(name, "it is not a number that is not negative");
        }
        number
    }

    pub(super) fn texts(&mut self, name: &str) -> Vec<String> {
        let Some(value) = self.take(name) else {
            return Vec::new();
        };
        let items = value.as_array().map(|items| items.iter().map(Value::as_str));
        match items.and_then(|items| items.collect::<Option<Vec<&str>>>()) {
            Some(texts) => texts.into_iter().map(str::to_owned).collect(),
            None => {
                self.bad(name, "it is not a list of texts");
                Vec::new()
            }
        }
    }

    pub(super) fn duration(&mut self, name: &str) -> Option<Duration> {
        let text = self.text(name)?;
        let time = duration(&text);
        if time.is_none() {
            self.bad(name, &format!("{text:?} is no duration such as 2s, 500ms or 1m30s"));
        }
        time
    }

    /// What a field holds, which is a map.
    pub(super) fn below<T>(&mut self, name: &str, read: impl FnOnce(&mut Fields<'a, '_>) -> T) -> Option<T> {
        let value = self.take(name)?;
        let at = self.path(name);
        let Some(map) = value.as_object() else {
            self.bad(name, "it is not a map of fields");
            return None;
        };
        let mut fields = Fields::new(map, at, self.notes);
        let read = read(&mut fields);
        let is_bad = fields.is_bad;
        self.is_bad |= is_bad;
        Some(read)
    }

    /// A map within a list.
    pub(super) fn item<T>(
        &mut self,
        name: &str,
        map: &'a Map<String, Value>,
        read: impl FnOnce(&mut Fields<'a, '_>) -> T,
    ) -> T {
        let at = self.path(name);
        read(&mut Fields::new(map, at, self.notes))
    }

    /// A map of texts, in order.
    pub(super) fn map(&mut self, name: &str) -> Vec<(String, String)> {
        let Some(value) = self.take(name) else {
            return Vec::new();
        };
        let entry = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        let all = value
            .as_object()
            .map(|all| all.iter().map(entry).collect::<Option<Vec<_>>>());
        all.flatten().unwrap_or_else(|| {
            self.bad(name, "it is not a map of texts");
            Vec::new()
        })
    }

    /// A field that is not in force.
    pub(super) fn pass_over(&mut self, name: &str, why: &str) {
        if self.take(name).is_some() {
            self.note(name, why);
        }
    }

    /// The fields that nobody took.
    pub(super) fn left(&self) -> Vec<&'a str> {
        self.left.keys().copied().collect()
    }

    /// Notes what nobody took, and says whether nothing that was taken was wrong.
    pub(super) fn finish(&mut self, why: &str) -> bool {
        for name in std::mem::take(&mut self.left).into_keys() {
            self.note(name, why);
        }
        !self.is_bad
    }
}

/// Numbers with units, as Go writes durations.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at(digits);
        let letters = unit.find(|c: char| !c.is_alphabetic()).unwrap_or(unit.len());
        let (unit, next) = unit.split_at(letters);
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(number * scale).ok()?)?;
        rest = next;
    }
    Some(total)
}
