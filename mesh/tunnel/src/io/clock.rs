//! What time it is.

use std::time::Instant;

/// As tokio's clock says, which tests may stop.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
