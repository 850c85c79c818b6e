//! How long tests wait for what must come about.

use std::time::Duration;

/// How long anything may take. CI machines are slow, and a wait that succeeds costs nothing.
pub const PATIENCE: Duration = Duration::from_secs(40);
