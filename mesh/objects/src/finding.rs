//! What is wrong with the configuration, said so that a person finds the place.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::kinds::Kind;
use crate::name::ObjectName;
use crate::persistent::PersistentMap;
use crate::severity::Severity;

/// What is wrong, in order. A copy shares it.
pub type Findings = PersistentMap<Arc<Finding>, ()>;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Finding {
    /// The file, as found below the directory. Empty for an object of a cluster.
    #[serde(skip_serializing_if = "is_nowhere")]
    pub file: PathBuf,
    /// Which document of the file, from 1; 0 when the file as a whole is meant. Documents without content do not count.
    pub document: usize,
    /// Line in the file, from 1, where known: of the fault, or else of the document's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The object, as `Kind namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Path of the field, as `spec.ports[0].port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is wrong and what holds instead.
    pub message: String,
    /// How much it matters.
    pub severity: Severity,
}

impl Finding {
    /// Something wrong with an object of a cluster, which no file holds.
    pub fn of_object(kind: Kind, name: &ObjectName, field: &str, message: String) -> Self {
        Self {
            file: PathBuf::new(),
            document: 0,
            line: None,
            object: Some(format!("{kind} {name}")),
            field: (!field.is_empty()).then(|| field.to_owned()),
            message,
            severity: Severity::Error,
        }
    }

    /// The same, which matters as much as this.
    #[must_use]
    pub fn of_severity(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }
}

fn is_nowhere(file: &Path) -> bool {
    file.as_os_str().is_empty()
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_nowhere(&self.file) {
            write!(f, "{}", self.object.as_deref().unwrap_or("the cluster"))?;
            if let Some(field) = &self.field {
                write!(f, ": {field}")?;
            }
            return write!(f, ": {}", self.message);
        }
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if self.document > 0 {
            write!(f, ": document {}", self.document)?;
        }
        if let Some(object) = &self.object {
            write!(f, ": {object}")?;
        }
        if let Some(field) = &self.field {
            write!(f, ": {field}")?;
        }
        write!(f, ": {}", self.message)
    }
}
