//! ServiceAccount: that it exists, since identities are named after it.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::prune;
use super::spec::KindSpec;
use crate::defaults;
use crate::name::ObjectName;

impl KindSpec for ServiceAccount {
    type Wire = Self;

    fn with_defaults(wire: Self) -> Self {
        defaults::service_account(wire)
    }

    fn keep(mut wire: Self) -> Self {
        Self {
            metadata: prune::name(&mut wire.metadata),
            ..Self::default()
        }
    }

    fn name(&self) -> ObjectName {
        prune::namespaced(&self.metadata)
    }

    fn label(&self, key: &str) -> Option<&str> {
        prune::label(&self.metadata, key)
    }

    fn heap(&self) -> usize {
        prune::metadata_bytes(&self.metadata)
    }
}
