//! What the mesh does with objects of a kind.

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;

use super::key::Key;
use crate::name::ObjectName;
use crate::problem::Problem;

/// What the mesh does with objects of a kind.
pub trait KindSpec: Metadata<Ty = ObjectMeta> + DeserializeOwned + PartialEq + Clone + Send + Sync + 'static {
    /// The object with what an API server fills in.
    #[must_use]
    fn with_defaults(self) -> Self {
        self
    }

    /// The object with what the mesh reads of it, and nothing else.
    #[must_use]
    fn prune(self) -> Self;

    /// Refuses what an API server would refuse.
    ///
    /// # Errors
    /// The field, and what is wrong with it.
    fn check(&self) -> Result<(), Problem> {
        Ok(())
    }

    /// By what others find it, beside its name.
    fn keys(&self, _name: &ObjectName) -> Vec<Key> {
        Vec::new()
    }

    /// About how many bytes it holds beside its own structure and metadata.
    fn heap(&self) -> usize {
        0
    }
}
