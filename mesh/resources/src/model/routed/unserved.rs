//! The conditions of an object of the Gateway API of whose kind nothing is served, at those of its parents (of a policy: its targets) that are
//! ours: that it is not accepted, and why. Otherwise whoever wrote it would wait for a controller.

use culvert_objects::{Kind, Namespace, ObjectName, enrols};
use serde_json::Value;

use super::super::reader::Reader;
use super::super::route_status::{Condition, ParentStatus, RouteStatus};
use super::status::{self, GATEWAY_API};
use crate::routing::model::Parent;

/// The status of the object; none of a kind that is served, or whose parents need not hear of it.
pub(super) fn status(reader: &Reader<'_>, kind: Kind, name: &ObjectName) -> Option<RouteStatus> {
    let known = kind.descriptor().unserved?;
    let object = reader.own_of(kind, name)?;
    let (written, generation) = object.unserved_parents()?;
    let written = match written {
        Value::Array(several) => several.as_slice(),
        one => std::slice::from_ref(one),
    };
    let message = format!("{} is not served: {}", known.kind, known.instead);
    let parents = written.iter().filter_map(parent);
    let ours = parents.filter(|parent| is_ours(reader, kind, name, parent));
    Some(RouteStatus {
        generation,
        parents: ours
            .map(|parent| ParentStatus {
                group: parent.group,
                kind: parent.kind,
                namespace: parent.namespace,
                name: parent.name,
                section: parent.section,
                port: parent.port,
                conditions: conditions(kind, &message),
            })
            .collect(),
    })
}

/// A parent as it is written; none if it has no name.
fn parent(written: &Value) -> Option<Parent> {
    let text = |field: &str| written.get(field).and_then(Value::as_str).map(str::to_owned);
    Some(Parent {
        group: text("group").unwrap_or_else(|| GATEWAY_API.to_owned()),
        kind: text("kind").unwrap_or_else(|| "Gateway".to_owned()),
        namespace: text("namespace"),
        name: text("name")?,
        section: text("sectionName"),
        port: written
            .get("port")
            .and_then(Value::as_u64)
            .and_then(|port| u16::try_from(port).ok()),
    })
}

/// A Gateway is ours where it is a waypoint, and a Service, which routes and policies alone may be for, where its namespace is in the mesh.
fn is_ours(reader: &Reader<'_>, kind: Kind, name: &ObjectName, parent: &Parent) -> bool {
    if kind != Kind::ListenerSet && parent.group.is_empty() && parent.kind == "Service" {
        let namespace = parent.namespace.as_deref().unwrap_or(&name.namespace);
        let found = reader.get::<Namespace>(&ObjectName::cluster(namespace));
        return found.is_some_and(|namespace| enrols(namespace));
    }
    status::is_waypoint(reader, name, parent)
}

fn conditions(kind: Kind, message: &str) -> Vec<Condition> {
    let said: &[(&str, &str)] = match kind {
        // None of our Gateways lets any in (`allowedListeners`).
        Kind::ListenerSet => &[("Accepted", "NotAllowed"), ("Programmed", "Invalid")],
        Kind::XBackendTrafficPolicy | Kind::XTelemetryPolicy => &[("Accepted", "Invalid")],
        _ => &[("Accepted", "UnsupportedValue")],
    };
    said.iter()
        .map(|(kind, reason)| Condition {
            kind,
            holds: false,
            reason,
            message: message.to_owned(),
        })
        .collect()
}
