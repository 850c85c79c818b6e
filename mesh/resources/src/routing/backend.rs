//! Where requests and connections go.

use std::sync::Arc;

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Backend {
    /// The Service's resource name.
    pub(crate) service: Arc<str>,
    pub(crate) port: u16,
    /// Those of its endpoints that have some labels, by the name that a DestinationRule gives them.
    pub(crate) subset: Option<Arc<str>>,
}
