//! What is wrong within one object.

/// A fault within one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line within the document, where known.
    pub line: Option<usize>,
    /// Path of the field.
    pub field: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl Problem {
    /// Something wrong with a field.
    pub(crate) fn of_field(field: &str, message: String) -> Self {
        Self {
            line: None,
            field: Some(field.to_owned()),
            message,
        }
    }
}
