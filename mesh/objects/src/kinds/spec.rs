//! What the mesh does with objects of a kind.

use std::fmt::Debug;

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::binding::Binding;
use super::key::Key;
use crate::known::Known;
use crate::name::ObjectName;
use crate::problem::Problem;

/// What the mesh does with objects of a kind. The implementing type is what is kept of an object: what the mesh reads of it,
/// and nothing else. Where there are many, it is a type of its own, since those of Kubernetes have room for everything.
pub trait KindSpec: Debug + PartialEq + Clone + Send + Sync + 'static {
    /// An object as an API server or a file has it.
    type Wire: Metadata<Ty = ObjectMeta> + DeserializeOwned;

    /// The object with what an API server fills in.
    #[must_use]
    fn with_defaults(wire: Self::Wire) -> Self::Wire {
        wire
    }

    /// Refuses what an API server would refuse.
    ///
    /// # Errors
    /// The field, and what is wrong with it.
    fn check(_wire: &Self::Wire) -> Result<(), Problem> {
        Ok(())
    }

    /// What is kept of an object that was checked.
    fn keep(wire: Self::Wire) -> Self;

    /// Namespace and name.
    fn name(&self) -> ObjectName;

    /// What tells it from others of the same name, before and after, if that is kept.
    fn uid(&self) -> Option<&str> {
        None
    }

    /// The value of a label that is kept.
    fn label(&self, key: &str) -> Option<&str>;

    /// By what others find it, beside its name.
    fn keys(&self, _name: &ObjectName) -> Vec<Key> {
        Vec::new()
    }

    /// What it binds, if it would restrict who reaches that and is not enforced.
    fn binding(&self) -> Option<&Binding> {
        None
    }

    /// What is known of its kind, and its spec, if that is kept as written, so that what is not served of it is said by the table of
    /// its fields.
    fn written(&self) -> Option<(&'static Known, &Value)> {
        None
    }

    /// What it names as its parents, as it is written, and which version of its spec that is of (none for one from a file), where it is
    /// of a kind that is not served and its parents are to hear that.
    fn unserved_parents(&self) -> Option<(&Value, Option<i64>)> {
        None
    }

    /// About how many bytes it holds beside its own structure. What it shares with others does not count.
    fn heap(&self) -> usize;
}
