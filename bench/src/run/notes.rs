//! What is said while it is measured, and what is noted as missing.

use super::loads::Load;
use crate::record::Missing;

/// For who waits.
pub(super) fn say(text: &str) {
    eprintln!("==> {text}");
}

/// What is not in the table.
pub(super) fn missing(mode: &str, load: Option<&Load>, why: String) -> Missing {
    Missing {
        mode: mode.to_owned(),
        load: load.map(|load| load.name.to_owned()),
        why,
    }
}
