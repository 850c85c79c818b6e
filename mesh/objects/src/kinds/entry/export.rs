//! Which namespaces see the hosts of a ServiceEntry: `spec.exportTo`.

use std::sync::Arc;

use serde_json::Value;

use super::reading::Reading;
use crate::labels::shared;
use crate::values::is_label;

/// Who sees the hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Export {
    /// All namespaces.
    #[default]
    All,
    /// These, in order. Where there is none, nobody does.
    Only(Box<[Arc<str>]>),
}

impl Export {
    /// Reads the field of an entry in `namespace`. What is not understood exports to nobody.
    pub(super) fn read(reading: &mut Reading, value: &Value, namespace: &str) -> Self {
        const FIELD: &str = "spec.exportTo";
        if value.is_null() || value.as_array().is_some_and(Vec::is_empty) {
            return Self::All;
        }
        let mut namespaces = Vec::new();
        for (field, text) in reading.texts(value, FIELD) {
            match text {
                "*" => return Self::All,
                "." => namespaces.push(shared(namespace)),
                "~" => {}
                name if is_label(name) => namespaces.push(shared(name)),
                other => reading.note(&field, format!("{other:?} is no namespace: it is left out")),
            }
        }
        namespaces.sort_unstable();
        namespaces.dedup();
        Self::Only(namespaces.into())
    }

    /// Whether those of a namespace see them.
    pub fn includes(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(namespaces) => namespaces.iter().any(|one| **one == *namespace),
        }
    }

    /// Whether nobody sees them.
    pub fn is_nobody(&self) -> bool {
        matches!(self, Self::Only(namespaces) if namespaces.is_empty())
    }
}
