//! ConfigMap: those that configure the mesh as a whole.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap as ConfigMapWire;

use super::prune;
use super::spec::KindSpec;
use crate::defaults;
use crate::mesh_config::{ISTIO, MeshConfig, NAME};
use crate::name::ObjectName;
use crate::problem::Problem;

/// The names that are followed.
pub(super) const NAMES: [&str; 2] = [NAME, ISTIO];
/// The key that holds the configuration.
const KEY: &str = "mesh";

/// A configuration map. Only those of [`crate::mesh_config`]'s names are read.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigMap {
    /// Namespace and name.
    pub name: ObjectName,
    /// What it configures; none where it has no key `mesh`, or a name that stands for nothing.
    pub mesh: Option<Arc<MeshConfig>>,
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
        }
    }

    fn name(&self) -> ObjectName {
        self.name.clone()
    }

    fn label(&self, _key: &str) -> Option<&str> {
        None
    }

    fn heap(&self) -> usize {
        self.mesh.as_ref().map_or(0, |mesh| mesh.heap())
    }
}

/// The configuration as it is written.
fn text(wire: &ConfigMapWire) -> Option<&str> {
    let is_read = wire.metadata.name.as_deref().is_some_and(|name| NAMES.contains(&name));
    let text = wire.data.as_ref().filter(|_| is_read)?.get(KEY)?;
    Some(text.as_str())
}
