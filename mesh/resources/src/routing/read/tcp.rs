//! TCPRoute.

use serde_json::Value;

use super::super::model::{Parent, Split};
use super::notes::{Notes, Resolve};
use super::route;

/// What a TCPRoute is for, and where connections go. None where it cannot be read, which is noted.
pub(crate) fn route(spec: &Value, resolve: &dyn Resolve, notes: &mut Notes) -> Option<(Vec<Parent>, Split)> {
    let (parents, _, split) = route::connections(spec, false, resolve, notes)?;
    Some((parents, split))
}
