//! What routes lead to.

use serde::Deserialize;

use super::super::super::model::Backend;
use super::super::notes::Unresolved;

/// Looks up hosts.
pub(crate) trait Destinations {
    /// The backend. Without a port it is the only one of the host, or the one that is asked for.
    ///
    /// # Errors
    /// Where there is no such host, subset or port.
    fn destination(&self, host: &str, subset: Option<&str>, port: Option<u16>) -> Result<Backend, Unresolved>;
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
