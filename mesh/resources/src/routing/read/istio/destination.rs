//! What routes lead to.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::super::super::model::Backend;
use super::super::notes::Unresolved;

/// Looks up hosts.
pub(crate) trait Destinations {
    /// The backend. Without a port it is the only one of the host, or the one that is asked for.
    ///
    /// # Errors
    /// Where there is no such host, subset or port.
    fn destination(&self, host: &str, subset: Option<&str>, port: Option<u16>) -> Result<Backend, Unresolved>;

    /// Another VirtualService, to which a rule of this one leaves the rest.
    ///
    /// # Errors
    /// Where there is no such, or it may not be referred to.
    fn delegate(&self, name: &str, namespace: Option<&str>) -> Result<Delegate<'_>, Unresolved>;
}

/// Another VirtualService.
pub(crate) struct Delegate<'a> {
    /// As `namespace/name`.
    pub(crate) name: String,
    pub(crate) spec: Arc<Value>,
    /// What its destinations lead to.
    pub(crate) destinations: Box<dyn Destinations + 'a>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DestinationSpec {
    host: String,
    subset: Option<String>,
    port: Option<PortSpec>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PortSpec {
    pub(super) number: Option<u16>,
}

impl DestinationSpec {
    pub(super) fn resolve(&self, destinations: &dyn Destinations) -> Result<Backend, Unresolved> {
        let subset = self.subset.as_deref().filter(|subset| !subset.is_empty());
        let port = self.port.and_then(|port| port.number);
        destinations.destination(&self.host, subset, port)
    }
}
