//! Which labels are shown.

use std::{fmt, str::FromStr};

use super::labels::label_names;

/// Without it, what both ends of a connection count would be added up.
const ALWAYS: &str = "reporter";

/// Labels that are left out. Series that differ in nothing else become one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DroppedLabels(Vec<&'static str>);

/// Why a list of labels to leave out is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// There is no such label.
    #[error("`{0}` is no label of the connection metrics; there are: {known}", known = label_names().join(", "))]
    Unknown(String),
    /// The label has to stay.
    #[error("`{ALWAYS}` stays: without it each connection that both of its ends count would count twice")]
    Needed,
}

impl DroppedLabels {
    /// Whether a label is left out.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains(&name)
    }
}

impl FromStr for DroppedLabels {
    type Err = LabelError;

    /// Names with commas between them; none is none.
    fn from_str(list: &str) -> Result<Self, LabelError> {
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        let known = |name: &str| match label_names().iter().find(|known| **known == name) {
            Some(&ALWAYS) => Err(LabelError::Needed),
            Some(known) => Ok(*known),
            None => Err(LabelError::Unknown(name.to_owned())),
        };
        names.map(known).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for DroppedLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}
