//! What is logged, traced and counted of the requests of a Service, in our own words.

use std::collections::BTreeMap;

use culvert_objects::mesh_config::{FileAccessLog, OpenTelemetry, Zipkin};
use serde::Serialize;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Telemetry {
    /// Lines; none where nothing is said of them, so that a waypoint does as it does without a word. Empty for no line at all.
    pub(crate) logs: Option<Vec<Log>>,
    /// Spans.
    pub(crate) tracing: Option<Tracing>,
    /// Metrics that are otherwise than Istio's, by name.
    pub(crate) metrics: BTreeMap<&'static str, MetricOverride>,
}

/// What is otherwise with a metric.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct MetricOverride {
    /// It is not counted.
    pub(crate) disabled: bool,
    /// What a tag says, as an expression; nothing for a tag that is left out.
    pub(crate) tags: BTreeMap<String, Option<String>>,
}

/// A log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Log {
    /// The provider.
    pub(crate) name: String,
    pub(crate) file: FileAccessLog,
    /// In CEL.
    pub(crate) filter: Option<String>,
}

/// Where spans go, and of which requests.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tracing {
    pub(crate) receiver: Receiver,
    /// The receiver's cluster.
    pub(crate) cluster: String,
    /// Its host.
    pub(crate) host: String,
    /// Of all requests, in percent.
    pub(crate) sampling: f64,
    pub(crate) tags: Vec<(String, Tag)>,
}

/// What receives spans.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Receiver {
    OpenTelemetry(OpenTelemetry),
    Zipkin(Zipkin),
}

/// What a tag says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Literal(String),
    /// A header field, or else a text; nothing where that is empty.
    Header(String, String),
    /// A variable of the waypoint's environment, or else a text.
    Environment(String, String),
}
