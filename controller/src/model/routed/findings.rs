//! What is wrong with a route object.

use culvert_objects::{Finding, Kind, ObjectName};

use super::super::reader::Reader;
use super::super::unit::Derived;
use super::{route, status};

/// Its findings: what cannot be served of it, and the parents at which it is not in force.
pub(in crate::model) fn derive(reader: &Reader<'_>, kind: Kind, name: &ObjectName) -> Derived {
    let Some(reading) = route::read(reader, kind, name) else {
        return Derived::default();
    };
    let notes = reading.notes.all().iter();
    let notes = notes.map(|note| Finding::of_object(kind, name, &note.field, note.message.clone()));
    let parents = reading.parents.iter().enumerate().filter_map(|(index, parent)| {
        let why = match parent.kind.as_str() {
            _ if status::is_service(parent) => status::accepted(reader, kind, name, parent).err()?.1,
            other => format!("a parent of kind {other} is left to others: the mesh takes routes of Services"),
        };
        Some(Finding::of_object(
            kind,
            name,
            &format!("spec.parentRefs[{index}]"),
            why,
        ))
    });
    Derived {
        findings: notes.chain(parents).collect(),
        ..Derived::default()
    }
}
