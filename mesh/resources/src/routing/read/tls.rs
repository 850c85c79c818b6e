//! TLSRoute.

use serde_json::Value;

use super::super::model::{Named, Parent};
use super::notes::{Notes, Resolve};
use super::route;

/// What a TLSRoute is for, and where connections go that ask for its names: all of TLS if it has none. None where it cannot be read,
/// which is noted.
pub(crate) fn route(spec: &Value, resolve: &dyn Resolve, notes: &mut Notes) -> Option<(Vec<Parent>, Named)> {
    let (parents, mut names, split) = route::connections(spec, true, resolve, notes)?;
    if names.is_empty() {
        names.push("*".to_owned());
    }
    Some((parents, Named { names, split }))
}
