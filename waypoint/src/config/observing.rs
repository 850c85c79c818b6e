//! What a chain wants to be known of its requests.

use std::sync::Arc;

use culvert_http::{access_log::AccessLog, trace::Tracing};

use super::metrics::MetricOverrides;

/// What a chain wants to be known of its requests.
#[derive(Debug, Default)]
pub struct Observing {
    /// Lines; none where the configuration says nothing of them, and the waypoint's own line is written.
    pub logs: Vec<AccessLog>,
    /// Spans.
    pub tracing: Option<Tracing>,
    /// What is counted otherwise.
    pub metrics: Option<Arc<MetricOverrides>>,
}

impl Observing {
    /// Whether nothing has to be remembered of a request.
    pub(crate) fn is_idle(&self) -> bool {
        let counts = self.metrics.as_ref().is_none_or(|metrics| metrics.is_fixed());
        self.logs.is_empty() && self.tracing.is_none() && counts
    }
}
