//! What a route object comes to, parent by parent, as the Gateway API's conditions say it.

use culvert_objects::{Kind, ObjectName};
use culvert_proto::workload::Service;

use super::super::reader::Reader;
use super::super::route_status::{Condition, ParentStatus, RouteStatus};
use super::frontend::{self, Frontend, Sort};
use super::route::{self, Reading};
use super::{attached, ports, reached, scope};
use crate::routing::model::Parent;
use crate::routing::protocol::Protocol;
use crate::routing::read::notes::Note;

pub(super) const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// Why a route is not for a parent: a reason, and for people.
pub(super) type Refused = (&'static str, String);

/// The status of a route object; none where there is none.
pub(in crate::model) fn status(reader: &Reader<'_>, kind: Kind, name: &ObjectName) -> Option<RouteStatus> {
    let reading = route::read(reader, kind, name)?;
    let ours = reading.parents.iter().filter(|parent| is_ours(reader, name, parent));
    let parents = ours.map(|parent| ParentStatus {
        group: parent.group.clone(),
        kind: parent.kind.clone(),
        namespace: parent.namespace.clone(),
        name: parent.name.clone(),
        section: parent.section.clone(),
        port: parent.port,
        conditions: conditions(&reading, in_force(reader, kind, name, parent)),
    });
    Some(RouteStatus {
        generation: reading.generation,
        parents: parents.collect(),
    })
}

/// Whether a parent is of a kind that the mesh takes routes of.
pub(super) fn is_frontend(parent: &Parent) -> bool {
    Sort::of(&parent.group, &parent.kind).is_some()
}

/// Whether the mesh has to say what a route comes to at a parent: at a Service or ServiceEntry, and at a Gateway that is a waypoint of
/// ours.
pub(super) fn is_ours(reader: &Reader<'_>, name: &ObjectName, parent: &Parent) -> bool {
    is_frontend(parent) || is_waypoint(reader, name, parent)
}

/// Whether a parent is a Gateway that is a waypoint of ours.
pub(super) fn is_waypoint(reader: &Reader<'_>, name: &ObjectName, parent: &Parent) -> bool {
    let namespace = parent.namespace.as_deref().unwrap_or(&name.namespace);
    parent.group == GATEWAY_API
        && parent.kind == "Gateway"
        && scope::gateway(reader, &ObjectName::new(namespace, parent.name.as_str())).is_some()
}

/// What there is to say of a route that is in force at a parent.
fn in_force(reader: &Reader<'_>, kind: Kind, name: &ObjectName, parent: &Parent) -> Result<String, Refused> {
    let place = accepted(reader, kind, name, parent)?;
    let mut message = "the route is in force".to_owned();
    for (port, other) in &place.taken {
        message += &format!(", but not at port {port}, which GRPCRoute {other} is for");
    }
    if !is_of_connections(kind) {
        let of = (&place.resource.as_str().into(), &place.service);
        for (rule, by) in reached::never(reader, (kind, name), of, &place.ports) {
            message += &format!("; rule {rule} never matches, since {by} comes first and takes all that it matches");
        }
    }
    Ok(message)
}

/// Where a route is in force.
pub(super) struct InForce {
    /// A Service of the first round, by its resource's name.
    resource: String,
    service: Service,
    ports: Vec<u16>,
    /// Ports where a route of a more specific kind is in force instead.
    taken: Vec<(u16, ObjectName)>,
}

/// Where a route is in force at a Service, or the hosts of a ServiceEntry.
///
/// # Errors
/// Why it is not.
pub(super) fn accepted(
    reader: &Reader<'_>,
    kind: Kind,
    name: &ObjectName,
    parent: &Parent,
) -> Result<InForce, Refused> {
    if is_waypoint(reader, name, parent) {
        let message = "a waypoint has the routes of the Services behind it: the parent must be the Service";
        return Err(("NotAllowedByListeners", message.to_owned()));
    }
    let refused = |message: String| Err(("NoMatchingParent", message));
    let namespace = parent.namespace.as_deref().unwrap_or(&name.namespace);
    let object = ObjectName::new(namespace, parent.name.as_str());
    let Some(sort) = Sort::of(&parent.group, &parent.kind) else {
        return refused(format!("the mesh takes no routes of {}", parent.kind));
    };
    let sort_kind = sort.kind();
    // The hosts of an entry have the same ports, and the same waypoint.
    let Some((resource, service)) = frontend::services(reader, sort, &object).into_iter().next() else {
        return refused(match sort {
            Sort::Service => format!("there is no Service {object}"),
            Sort::ServiceEntry => format!("there is no ServiceEntry {object} that serves a host"),
        });
    };
    if scope::of_service(reader, &service).is_empty() {
        return refused(format!(
            "{sort_kind} {object} is behind no waypoint of Culvert that takes it: its routes are not in force"
        ));
    }
    if is_of_connections(kind) && *name.namespace != *namespace {
        return refused(format!(
            "a {kind} is in force in the namespace of its {sort_kind} alone, which is {namespace}"
        ));
    }
    let found = ports::of_object(reader, &service);
    let Some(frontend) = Frontend::of(reader, &service) else {
        return refused(format!("{sort_kind} {object} is made of something else"));
    };
    let mut meant: Vec<u16> = ports::of_service(&service)
        .filter(|port| frontend.is_meant(parent, name, *port))
        .collect();
    if meant.is_empty() {
        return refused(format!("{sort_kind} {object} has no such port"));
    }
    meant.retain(|port| speaks(&service, found.as_ref(), *port, kind));
    if meant.is_empty() {
        let what = match kind {
            Kind::TCPRoute => "TCP",
            Kind::TLSRoute => "TLS",
            _ => "HTTP",
        };
        return refused(format!("no such port of {sort_kind} {object} speaks {what}"));
    }
    let mut taken = Vec::new();
    if kind == Kind::HTTPRoute {
        meant.retain(|port| match attached::ahead(reader, &frontend, name, *port) {
            Some(other) => {
                taken.push((*port, other.clone()));
                false
            }
            None => true,
        });
    }
    match taken.first() {
        Some((_, other)) if meant.is_empty() => Err((
            "Conflicted",
            format!(
                "GRPCRoute {other} is for the same port of {sort_kind} {object}, where of both kinds it alone is in force"
            ),
        )),
        _ => Ok(InForce {
            resource,
            service,
            ports: meant,
            taken,
        }),
    }
}

/// Whether routes of a kind are about connections, rather than about requests.
fn is_of_connections(kind: Kind) -> bool {
    matches!(kind, Kind::TCPRoute | Kind::TLSRoute)
}

fn speaks(
    service: &Service,
    object: Option<&(ObjectName, Vec<k8s_openapi::api::core::v1::ServicePort>)>,
    port: u16,
    kind: Kind,
) -> bool {
    let protocol: Protocol = ports::protocol(service, object, port);
    match kind {
        kind if is_of_connections(kind) => protocol.is_tcp(),
        _ => protocol.is_http(),
    }
}

fn conditions(reading: &Reading, in_force: Result<String, Refused>) -> Vec<Condition> {
    let notes = reading.notes.all();
    let unresolved: Vec<&Note> = notes.iter().filter(|note| note.unresolved.is_some()).collect();
    let refused: Vec<&Note> = notes.iter().filter(|note| note.unresolved.is_none()).collect();
    let (holds, reason, message) = match in_force {
        _ if !reading.is_read => (false, "UnsupportedValue", joined(&refused)),
        Ok(message) => (true, "Accepted", message),
        Err((reason, message)) => (false, reason, message),
    };
    let mut conditions = vec![Condition {
        kind: "Accepted",
        holds,
        reason,
        message,
    }];
    conditions.push(Condition {
        kind: "ResolvedRefs",
        holds: unresolved.is_empty(),
        reason: unresolved
            .first()
            .and_then(|note| note.unresolved)
            .unwrap_or("ResolvedRefs"),
        message: if unresolved.is_empty() {
            "all backends are there".to_owned()
        } else {
            joined(&unresolved)
        },
    });
    if holds && !refused.is_empty() {
        conditions.push(Condition {
            kind: "PartiallyInvalid",
            holds: true,
            reason: "UnsupportedValue",
            message: joined(&refused),
        });
    }
    conditions
}

/// All of them, since each may need to be put right.
fn joined(notes: &[&Note]) -> String {
    let texts: Vec<String> = notes
        .iter()
        .map(|note| format!("{}: {}", note.field, note.message))
        .collect();
    texts.join("; ")
}
