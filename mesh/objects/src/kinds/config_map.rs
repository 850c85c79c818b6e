//! ConfigMap: read from files, by programs of the tests.

use k8s_openapi::api::core::v1::ConfigMap;

use super::prune;
use super::spec::KindSpec;
use crate::defaults;
use crate::name::ObjectName;

impl KindSpec for ConfigMap {
    type Wire = Self;

    fn with_defaults(wire: Self) -> Self {
        defaults::config_map(wire)
    }

    fn keep(wire: Self) -> Self {
        wire
    }

    fn name(&self) -> ObjectName {
        prune::namespaced(&self.metadata)
    }

    fn label(&self, key: &str) -> Option<&str> {
        prune::label(&self.metadata, key)
    }

    fn heap(&self) -> usize {
        prune::metadata_bytes(&self.metadata) + prune::map_bytes(self.data.as_ref())
    }
}
