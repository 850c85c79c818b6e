//! The ConfigMaps that BackendTLSPolicies name.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{BackendTLSPolicy, Kind, ObjectName, PersistentMap};

impl BackendTLSPolicy {
    /// The ConfigMaps whose certificates are to be trusted, in the policy's own namespace.
    pub fn authorities(&self) -> impl Iterator<Item = ObjectName> {
        let references = self.spec["validation"]["caCertificateRefs"].as_array();
        let maps = references.into_iter().flatten().filter(|reference| {
            reference["kind"] == "ConfigMap" && reference["group"].as_str().unwrap_or_default().is_empty()
        });
        let names = maps.filter_map(|reference| reference["name"].as_str());
        names.map(|name| ObjectName::new(Arc::clone(&self.name.namespace), name))
    }
}

/// The ConfigMaps that any of these policies names, but for those that are followed by their names anyway.
pub fn named_authorities(policies: &PersistentMap<ObjectName, Arc<BackendTLSPolicy>>) -> BTreeSet<ObjectName> {
    let followed = Kind::ConfigMap.descriptor().names();
    let all = policies.values().flat_map(|policy| policy.authorities());
    all.filter(|name| !followed.contains(&&*name.name)).collect()
}
