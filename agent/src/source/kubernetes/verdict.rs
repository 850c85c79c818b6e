//! What is said of a pod that arrives.

use std::sync::Arc;

/// Whether a pod that arrives takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does not.
    Outside,
    /// It does: snapshots from now on contain it.
    Wanted {
        /// Under this uid.
        uid: Arc<str>,
    },
}
