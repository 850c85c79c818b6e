//! What is wrong, and what to do.

use culvert_objects::{Kind, ObjectName, Severity};
use serde::{Deserialize, Serialize};

/// Something that is wrong or without effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// The object, as `Kind namespace/name`; empty where a file as a whole is meant.
    pub object: String,
    /// Path of the field; empty where the object as a whole is meant.
    pub field: String,
    /// What is wrong, and what holds instead.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// The file, and the line in it, where the object is from one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub place: String,
}

impl Problem {
    /// Something that has no effect.
    pub(super) fn warning(kind: Kind, name: &ObjectName, field: &str, message: String, remedy: &str) -> Self {
        Self {
            severity: Severity::Warning,
            object: format!("{kind} {name}"),
            field: field.to_owned(),
            message,
            remedy: remedy.to_owned(),
            place: String::new(),
        }
    }

    /// The same, where somebody is kept out by it.
    pub(super) fn error(self) -> Self {
        Self {
            severity: Severity::Error,
            ..self
        }
    }
}
