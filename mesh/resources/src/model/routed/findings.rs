//! What is wrong with a route object.

use culvert_objects::{
    DestinationRule, Finding, HTTPRoute, Kind, KindSpec as _, ObjectName, Severity, Telemetry, VirtualService,
};

use super::super::reader::Reader;
use super::super::unit::Derived;
use super::hosts::{self, Hosts};
use super::{policy_status, ports, route, scope, status, telemetry, unserved};
use crate::routing::read::istio::{destination_rule, virtual_service};
use crate::routing::read::notes::Notes;

/// Its findings: what cannot be served of it, and the parents at which it is not in force.
pub(in crate::model) fn derive(reader: &Reader<'_>, kind: Kind, name: &ObjectName) -> Derived {
    if kind == Kind::TrafficPolicy {
        return policy_status::derive(reader, name);
    }
    // That they are not served is said by the source of the objects.
    if let Some(status) = unserved::status(reader, kind, name) {
        return Derived {
            status: Some(status),
            ..Derived::default()
        };
    }
    let of_istio = match kind {
        Kind::VirtualService => reader
            .own::<VirtualService>(name)
            .map(|object| of_virtual_service(reader, name, object)),
        Kind::DestinationRule => reader
            .own::<DestinationRule>(name)
            .map(|object| of_destination_rule(reader, name, object)),
        Kind::Telemetry => reader
            .own::<Telemetry>(name)
            .map(|object| of_telemetry(reader, name, object)),
        _ => None,
    };
    if let Some(mut found) = of_istio {
        found.sort_unstable();
        found.dedup();
        let findings = found.into_iter();
        let findings = findings
            .map(|(field, message, severity)| Finding::of_object(kind, name, &field, message).of_severity(severity));
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
        let (why, severity) = match parent.kind.as_str() {
            _ if status::is_ours(reader, name, parent) => {
                let why = status::accepted(reader, kind, name, parent).err()?.1;
                let closes = (kind == Kind::HTTPRoute)
                    .then(|| reader.own::<HTTPRoute>(name)?.binding())
                    .flatten()
                    .is_some();
                match closes {
                    true => (
                        format!("{why}; nobody is asked as the route says, so that nobody may reach it"),
                        Severity::Error,
                    ),
                    false => (why, Severity::Warning),
                }
            }
            other => (
                format!(
                    "a parent of kind {other} is left to others: the mesh takes routes of Services and ServiceEntries"
                ),
                Severity::Info,
            ),
        };
        let finding = Finding::of_object(kind, name, &format!("spec.parentRefs[{index}]"), why);
        Some(finding.of_severity(severity))
    });
    Derived {
        findings: notes.chain(parents).collect(),
        status: status::status(reader, kind, name),
        ..Derived::default()
    }
}

/// A field, what is wrong with it, and how much that matters.
type Found = (String, String, Severity);

/// The findings of a VirtualService: what cannot be served of it, at which hosts it is not in force, and why.
fn of_virtual_service(reader: &Reader<'_>, name: &ObjectName, object: &VirtualService) -> Vec<Found> {
    let mut notes = Notes::default();
    let mut found = Vec::new();
    let label = format!("VirtualService {name}");
    if object.hosts().next().is_none() && hosts::delegating(reader, name).is_empty() {
        let why = "there is none, and no VirtualService leaves anything to this one: the rules are not in force";
        found.push(("spec.hosts".to_owned(), why.to_owned(), Severity::Warning));
    }
    for (index, host) in object.hosts().enumerate() {
        let at = format!("spec.hosts[{index}]");
        let services = hosts::services_of(reader, name, host);
        if services.is_empty() {
            let why = format!("there is no host {host:?} that a waypoint is for");
            found.push((at, why, Severity::Warning));
            continue;
        }
        for service in services {
            let why = match hosts::virtual_service(reader, &service) {
                _ if scope::of_service(reader, &service).is_empty() => {
                    "is behind no waypoint of Culvert that takes it: the rules are not in force".to_owned()
                }
                Some((holds, _)) if holds == name => {
                    for port in ports::of_service(&service) {
                        let destinations = Hosts {
                            reader,
                            object: name,
                            service: &service,
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
            found.push((at.clone(), format!("{} {why}", service.hostname), Severity::Warning));
        }
    }
    let notes = notes.all().iter();
    found.extend(notes.map(|note| (note.field.clone(), note.message.clone(), Severity::Error)));
    found
}

/// The findings of a Telemetry object.
fn of_telemetry(reader: &Reader<'_>, name: &ObjectName, object: &Telemetry) -> Vec<Found> {
    let found = telemetry::findings(reader, name, object).into_iter();
    found
        .map(|(field, message)| (field, message, Severity::Warning))
        .collect()
}

/// The findings of a DestinationRule.
fn of_destination_rule(reader: &Reader<'_>, name: &ObjectName, object: &DestinationRule) -> Vec<Found> {
    let mut notes = Notes::default();
    destination_rule::read(&object.spec, &mut notes);
    let host = object.spec["host"].as_str().unwrap_or_default();
    let services = hosts::services_of(reader, name, host);
    let at = || "spec.host".to_owned();
    let mut found = Vec::new();
    if services.is_empty() && !host.starts_with('*') {
        let why = format!("there is no host {host:?}: nothing follows from it");
        found.push((at(), why, Severity::Warning));
    }
    for service in services {
        let holding = hosts::destination_rules(reader, &service);
        let place = holding.iter().position(|(holds, _)| *holds == name);
        let why = match (place, holding.first()) {
            (Some(0), _) => continue,
            // Its subsets hold beside those of the older ones, and its policy where none of them has any.
            (Some(place), _) => {
                let older = &holding[..place];
                let has_policy = |rule: &DestinationRule| rule.spec["trafficPolicy"].is_object();
                let other = older.iter().find(|(_, rule)| has_policy(rule));
                if let Some((other, _)) = other.filter(|_| has_policy(object)) {
                    let text = format!(
                        "{} has the policy of DestinationRule {other}, which is older",
                        service.hostname
                    );
                    found.push(("spec.trafficPolicy".to_owned(), text, Severity::Warning));
                }
                let names = |rule: &DestinationRule| -> Vec<String> {
                    let subsets = rule.spec["subsets"].as_array().into_iter().flatten();
                    subsets
                        .filter_map(|subset| Some(subset["name"].as_str()?.to_owned()))
                        .collect()
                };
                for (index, subset) in names(object).iter().enumerate() {
                    if let Some((other, _)) = older.iter().find(|(_, rule)| names(rule).contains(subset)) {
                        let text = format!(
                            "{} has subset {subset} of DestinationRule {other}, which is older",
                            service.hostname
                        );
                        found.push((format!("spec.subsets[{index}]"), text, Severity::Warning));
                    }
                }
                continue;
            }
            (None, Some((other, _))) => format!("has DestinationRule {other}, which holds instead"),
            (None, None) => {
                "takes DestinationRules of its own namespace and the mesh's alone, which are exported to it".to_owned()
            }
        };
        found.push((at(), format!("{} {why}", service.hostname), Severity::Warning));
    }
    let notes = notes.all().iter();
    found.extend(notes.map(|note| (note.field.clone(), note.message.clone(), Severity::Error)));
    found
}
