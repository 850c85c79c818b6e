//! What an API server would refuse of an object's name, whatever its kind.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::problem::Problem;
use crate::values::{is_label, is_subdomain};

/// How the objects of a kind are called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Naming {
    /// Whether they live in namespaces.
    pub(crate) namespaced: bool,
    /// Whether a name is one label, without dots.
    pub(crate) is_label: bool,
}

/// Checks the names of one object.
pub(crate) fn metadata(metadata: &ObjectMeta, naming: Naming) -> Result<(), Problem> {
    let name = metadata.name.as_deref().unwrap_or_default();
    let is_name = if naming.is_label { is_label } else { is_subdomain };
    if !is_name(name) {
        return Err(Problem::of_field(
            "metadata.name",
            format!("{name:?} is not a name: lower-case letters, digits, '-'"),
        ));
    }
    if naming.namespaced {
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        if !is_label(namespace) {
            return Err(Problem::of_field(
                "metadata.namespace",
                format!("{namespace:?} is not the name of a namespace"),
            ));
        }
    }
    Ok(())
}
