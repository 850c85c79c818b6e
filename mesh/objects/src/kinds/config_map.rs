//! ConfigMap: those that configure the mesh as a whole, and those with certificates that policies name.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap as ConfigMapWire;

use super::prune;
use super::spec::KindSpec;
use crate::defaults;
use crate::mesh_config::{ISTIO, MeshConfig, NAME};
use crate::name::ObjectName;
use crate::problem::Problem;

/// The names that are followed, whatever other objects say.
pub(super) const NAMES: [&str; 2] = [NAME, ISTIO];
/// The key that holds the configuration.
const KEY: &str = "mesh";
/// The key that holds certificates of authorities.
const AUTHORITIES: &str = "ca.crt";

/// A configuration map.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigMap {
    /// Namespace and name.
    pub name: ObjectName,
    /// What it configures; none where it has no key `mesh`, or a name that stands for nothing.
    pub mesh: Option<Arc<MeshConfig>>,
    /// What its key `ca.crt` holds, if it has one: certificates in PEM, as they are written.
    pub authorities: Option<Arc<str>>,
}

impl KindSpec for ConfigMap {
    type Wire = ConfigMapWire;

    fn with_defaults(wire: ConfigMapWire) -> ConfigMapWire {
        defaults::config_map(wire)
    }

    /// Refuses what is not YAML, so that the last good one holds.
    fn check(wire: &ConfigMapWire) -> Result<(), Problem> {
        match text(wire).map(MeshConfig::parse) {
            Some(Err(problem)) => Err(Problem::of_field("data.mesh", problem.to_string())),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    fn keep(wire: ConfigMapWire) -> Self {
        Self {
            name: prune::namespaced(&wire.metadata),
            mesh: text(&wire).and_then(|text| MeshConfig::parse(text).ok()).map(Arc::new),
            authorities: authorities(wire).map(Into::into),
        }
    }

    fn name(&self) -> ObjectName {
        self.name.clone()
    }

    fn label(&self, _key: &str) -> Option<&str> {
        None
    }

    fn heap(&self) -> usize {
        let authorities = self.authorities.as_ref().map_or(0, |text| text.len());
        self.mesh.as_ref().map_or(0, |mesh| mesh.heap()) + authorities
    }
}

/// The configuration as it is written.
fn text(wire: &ConfigMapWire) -> Option<&str> {
    let is_read = wire.metadata.name.as_deref().is_some_and(|name| NAMES.contains(&name));
    let text = wire.data.as_ref().filter(|_| is_read)?.get(KEY)?;
    Some(text.as_str())
}

fn authorities(wire: ConfigMapWire) -> Option<String> {
    wire.data?.remove(AUTHORITIES)
}
