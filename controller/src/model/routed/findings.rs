//! What is wrong with a route object.

use culvert_objects::{DestinationRule, Finding, Kind, ObjectName, Telemetry, VirtualService};

use super::super::reader::Reader;
use super::super::unit::Derived;
use super::hosts::{self, Hosts};
use super::{ports, route, scope, status, telemetry};
use crate::routing::read::istio::{destination_rule, virtual_service};
use crate::routing::read::notes::Notes;

/// Its findings: what cannot be served of it, and the parents at which it is not in force.
pub(in crate::model) fn derive(reader: &Reader<'_>, kind: Kind, name: &ObjectName) -> Derived {
    let of_istio = match kind {
        Kind::VirtualService => reader
            .own::<VirtualService>(name)
            .map(|object| of_virtual_service(reader, name, object)),
        Kind::DestinationRule => reader
            .own::<DestinationRule>(name)
            .map(|object| of_destination_rule(reader, name, object)),
        Kind::Telemetry => reader
            .own::<Telemetry>(name)
            .map(|object| telemetry::findings(reader, name, object)),
        _ => None,
    };
    if let Some(mut found) = of_istio {
        found.sort_unstable();
        found.dedup();
        let findings = found.into_iter();
        let findings = findings.map(|(field, message)| Finding::of_object(kind, name, &field, message));
        return Derived {
            findings: findings.collect(),
            ..Derived::default()
        };
    }
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

/// The findings of a VirtualService: what cannot be served of it, at which hosts it is not in force, and why.
fn of_virtual_service(reader: &Reader<'_>, name: &ObjectName, object: &VirtualService) -> Vec<(String, String)> {
    let mut notes = Notes::default();
    let mut found = Vec::new();
    let label = format!("VirtualService {name}");
    for (index, host) in object.hosts().enumerate() {
        let at = format!("spec.hosts[{index}]");
        let services = hosts::services_of(reader, name, host);
        if services.is_empty() {
            found.push((at, format!("there is no host {host:?} that a waypoint is for")));
            continue;
        }
        for service in services {
            let why = match hosts::virtual_service(reader, &service) {
                _ if scope::of_service(reader, &service).is_none() => {
                    "is behind no waypoint of Culvert that takes it: the rules are not in force".to_owned()
                }
                Some((holds, _)) if holds == name => {
                    for port in ports::of_service(&service) {
                        let destinations = Hosts {
                            reader,
                            object: name,
                            port,
                        };
                        virtual_service::at_port(&label, &object.spec, port, &destinations, &mut notes);
                    }
                    match hosts::overruling(reader, &service) {
                        Some(route) => format!("has {route}, which comes before the rules for requests"),
                        None => continue,
                    }
                }
                Some((other, _)) => format!("has VirtualService {other}, which holds instead"),
                None => format!(
                    "takes the rules of VirtualServices of its own namespace {} alone, which are exported to it",
                    service.namespace
                ),
            };
            found.push((at.clone(), format!("{} {why}", service.hostname)));
        }
    }
    let notes = notes.all().iter();
    found.extend(notes.map(|note| (note.field.clone(), note.message.clone())));
    found
}

/// The findings of a DestinationRule.
fn of_destination_rule(reader: &Reader<'_>, name: &ObjectName, object: &DestinationRule) -> Vec<(String, String)> {
    let mut notes = Notes::default();
    destination_rule::read(&object.spec, &mut notes);
    let host = object.spec["host"].as_str().unwrap_or_default();
    let services = hosts::services_of(reader, name, host);
    let at = || "spec.host".to_owned();
    let mut found = Vec::new();
    if services.is_empty() && !host.starts_with('*') {
        found.push((at(), format!("there is no host {host:?}: nothing follows from it")));
    }
    for service in services {
        let why = match hosts::destination_rule(reader, &service) {
            Some((holds, _)) if holds == name => continue,
            Some((other, _)) => format!("has DestinationRule {other}, which holds instead"),
            None => {
                "takes DestinationRules of its own namespace and the mesh's alone, which are exported to it".to_owned()
            }
        };
        found.push((at(), format!("{} {why}", service.hostname)));
    }
    let notes = notes.all().iter();
    found.extend(notes.map(|note| (note.field.clone(), note.message.clone())));
    found
}
