//! How much it matters that something is wrong.

/// How much it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// All that the object says to the mesh is in force: somebody may want to know this as well.
    Info,
    /// Something that the object says has no effect.
    Warning,
    /// Something that the object says is refused, or cannot be as it is written.
    #[default]
    Error,
}

impl Severity {
    /// Whether an object of which this is said is not in force as it is written.
    pub fn departs(self) -> bool {
        self > Self::Info
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}
