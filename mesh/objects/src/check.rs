//! What an API server would refuse of an object by itself.

use crate::kinds::{Kind, Object};
use crate::problem::Problem;
use crate::values::{is_label, is_subdomain};

/// Checks one object by itself.
pub(crate) fn object(object: &Object) -> Result<(), Problem> {
    let metadata = object.metadata();
    let name = metadata.name.as_deref().unwrap_or_default();
    let label = matches!(object.kind(), Kind::Namespace | Kind::Service);
    if !(if label { is_label(name) } else { is_subdomain(name) }) {
        return Err(Problem::of_field(
            "metadata.name",
            format!("{name:?} is not a name: lower-case letters, digits, '-'"),
        ));
    }
    if object.is_namespaced() {
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        if !is_label(namespace) {
            return Err(Problem::of_field(
                "metadata.namespace",
                format!("{namespace:?} is not the name of a namespace"),
            ));
        }
    }
    object.check()
}
