//! What is said while it is measured, and what is noted as missing.

use super::loads::Load;
use crate::record::Missing;
use std::io::{self, Write as _};

/// For who waits. Who no longer listens does not end the run: what was made for it must be removed.
pub(super) fn say(text: &str) {
    let _heard = writeln!(io::stderr(), "==> {text}");
}

/// What came of it, below that.
pub(super) fn tell(text: &str) {
    let _heard = writeln!(io::stderr(), "    {text}");
}

/// What is not in the table.
pub(super) fn missing(mode: &str, load: Option<&Load>, why: String) -> Missing {
    Missing {
        mode: mode.to_owned(),
        load: load.map(|load| load.name.to_owned()),
        why,
    }
}
