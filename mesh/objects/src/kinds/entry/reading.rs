//! Reads JSON place by place, and notes what is wrong.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::problem::Problem;

/// What is wrong with an object, while it is read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    problems: Vec<Problem>,
}

impl Reading {
    /// Notes what is wrong with a field.
    pub(super) fn note(&mut self, field: &str, message: impl Into<String>) {
        self.problems.push(Problem::of_field(field, message.into()));
    }

    /// The text in a field; none where there is no value.
    pub(super) fn text<'v>(&mut self, value: &'v Value, field: &str) -> Option<&'v str> {
        if value.is_null() {
            return None;
        }
        let text = value.as_str();
        if text.is_none() {
            self.note(field, "it is no text: it is left out");
        }
        text
    }

    /// The items of a list, with their fields.
    pub(super) fn items<'v>(&mut self, value: &'v Value, field: &str) -> Vec<(String, &'v Value)> {
        match value {
            Value::Null => Vec::new(),
            Value::Array(items) => {
                let placed = items.iter().enumerate();
                placed
                    .map(|(index, item)| (format!("{field}[{index}]"), item))
                    .collect()
            }
            _ => {
                self.note(field, "it is no list: it is left out");
                Vec::new()
            }
        }
    }

    /// The texts of a list, with their fields.
    pub(super) fn texts<'v>(&mut self, value: &'v Value, field: &str) -> Vec<(String, &'v str)> {
        let items = self.items(value, field).into_iter();
        let texts: Vec<_> = items.map(|(field, item)| (self.text(item, &field), field)).collect();
        texts
            .into_iter()
            .filter_map(|(text, field)| Some((field, text?)))
            .collect()
    }

    /// The members of a map, with their fields.
    pub(super) fn members<'v>(&mut self, value: &'v Value, field: &str) -> Vec<(String, &'v str, &'v Value)> {
        match value {
            Value::Null => Vec::new(),
            Value::Object(members) => {
                let placed = members.iter();
                placed
                    .map(|(name, value)| (format!("{field}[{name}]"), name.as_str(), value))
                    .collect()
            }
            _ => {
                self.note(field, "it is no map: it is left out");
                Vec::new()
            }
        }
    }

    /// Labels; a value that is no text is left out.
    pub(super) fn labels(&mut self, value: &Value, field: &str) -> BTreeMap<String, String> {
        let members = self.members(value, field).into_iter();
        let read = members.map(|(field, name, value)| (name.to_owned(), self.text(value, &field).map(str::to_owned)));
        let read: Vec<_> = read.collect();
        read.into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }

    /// A port; none where there is no value, or none that is a port.
    pub(super) fn port(&mut self, value: &Value, field: &str) -> Option<u16> {
        if value.is_null() {
            return None;
        }
        let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
        let port = number.filter(|port| *port != 0);
        if port.is_none() {
            self.note(field, format!("{value} is no port (1 to 65535): it is left out"));
        }
        port
    }

    /// All that was noted.
    pub(super) fn into_problems(self) -> Box<[Problem]> {
        self.problems.into()
    }
}

/// A DNS name in lower case and without the dot at its end; none if it is none. Underscores are usual in names outside.
pub(super) fn dns_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(allowed);
    (name.len() <= 253 && name.split('.').all(is_label)).then_some(name)
}
