//! What a chain wants to be known of its requests.

use culvert_http::{access_log::AccessLog, trace::Tracing};

/// What a chain wants to be known of its requests.
#[derive(Debug, Default)]
pub struct Observing {
    /// Lines; none where the configuration says nothing of them, and the waypoint's own line is written.
    pub logs: Vec<AccessLog>,
    /// Spans.
    pub tracing: Option<Tracing>,
}
