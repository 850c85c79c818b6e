//! What is said about an object that is not in force as it is written.

use std::fmt;

/// One place of an object that is not in force as it is written, and what holds instead.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// Path of the field, as `spec.rules[0].to[1].operation.paths`.
    pub field: String,
    /// What it says, and what holds instead.
    pub message: String,
}

/// Notes, as they are found on the way through an object.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<Note>);

impl Notes {
    pub(super) fn add(&mut self, field: &str, message: impl fmt::Display) {
        self.0.push(Note {
            field: field.to_owned(),
            message: message.to_string(),
        });
    }

    pub(super) fn into_vec(self) -> Vec<Note> {
        self.0
    }
}
