//! What could not be served of an object, and what its references lead to.

use super::super::model::Backend;

/// What a backend is asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackendRef<'a> {
    pub(crate) group: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: &'a str,
    pub(crate) port: Option<u16>,
}

/// Why a reference leads nowhere: a reason as the Gateway API has it, and a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Unresolved {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Looks up backends.
pub(crate) trait Resolve {
    /// The backend.
    ///
    /// # Errors
    /// Where there is none, or it must not be referred to.
    fn backend(&self, reference: &BackendRef<'_>) -> Result<Backend, Unresolved>;
}

/// What is wrong with an object, by field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notes {
    all: Vec<Note>,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) field: String,
    pub(crate) message: String,
    /// The reason why a reference leads nowhere, if it is one.
    pub(crate) unresolved: Option<&'static str>,
}

impl Notes {
    /// Notes that a field cannot be served, and what holds instead.
    pub(crate) fn refuse(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.all.push(Note {
            field: field.into(),
            message: message.into(),
            unresolved: None,
        });
    }

    /// Notes that a reference leads nowhere, and what holds instead.
    pub(crate) fn unresolved(&mut self, field: impl Into<String>, why: &Unresolved, instead: &str) {
        self.all.push(Note {
            field: field.into(),
            message: format!("{}: {instead}", why.message),
            unresolved: Some(why.reason),
        });
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[Note] {
        &self.all
    }
}
