//! A BackendTLSPolicy by itself: what is wrong with it, and what it comes to at each of its targets, as the Gateway API's conditions say it.
//!
//! The ancestor that a status names is the target: a policy may be accepted at one Service and not at another, and the endpoints of a Service
//! may be reached from several waypoints.

use culvert_objects::{BackendTLSPolicy, Finding, Kind, ObjectName, Severity};
use culvert_proto::workload::Service;
use k8s_openapi::api::core::v1::ServicePort;

use super::super::reader::Reader;
use super::super::route_status::{Condition, ParentStatus, RouteStatus};
use super::super::unit::Derived;
use super::super::wire;
use super::backend_tls::{self, Policies};
use super::{backend, hosts, ports};
use crate::routing::backend_tls::Said;
use crate::routing::read::backend_tls::{Reading, Target, targets};
use crate::routing::read::notes::{Note, Notes};

/// Why a policy is not in force: a reason, and for people.
type Refused = (&'static str, String);

/// Its findings and its status.
pub(in crate::model) fn derive(reader: &Reader<'_>, name: &ObjectName) -> Derived {
    let Some(policy) = reader.own::<BackendTLSPolicy>(name) else {
        return Derived::default();
    };
    let mut notes = Notes::default();
    let reading = backend_tls::read(reader, name, policy, &mut notes);
    let kind = Kind::BackendTLSPolicy;
    // Of a kind that is not read the table of fields speaks.
    let notes_of_values = notes.all().iter().filter(|note| note.unresolved != Some("InvalidKind"));
    let mut findings: Vec<Finding> = notes_of_values
        .map(|note| Finding::of_object(kind, name, &note.field, note.message.clone()))
        .collect();
    let mut parents = Vec::new();
    for (index, target) in targets(&policy.spec) {
        if !backend_tls::is_service(&target) {
            continue;
        }
        let accepted = accepted(reader, name, &target);
        if let Err((_, why)) = &accepted {
            let finding = Finding::of_object(kind, name, &format!("spec.targetRefs[{index}]"), why.clone());
            findings.push(finding.of_severity(Severity::Warning));
        }
        parents.push(ParentStatus {
            group: String::new(),
            kind: "Service".to_owned(),
            namespace: Some(name.namespace.to_string()),
            name: target.name,
            section: target.section,
            port: None,
            conditions: conditions(&reading, &notes, accepted),
        });
    }
    Derived {
        findings,
        status: Some(RouteStatus {
            generation: policy.generation,
            parents,
        }),
        ..Derived::default()
    }
}

/// Whether a policy decides about connections to a Service, or to a port of it.
///
/// # Errors
/// Why it does not.
fn accepted(reader: &Reader<'_>, name: &ObjectName, target: &Target) -> Result<(), Refused> {
    let object = ObjectName::new(std::sync::Arc::clone(&name.namespace), target.name.as_str());
    let resource = wire::service_name(reader.settings(), &object);
    let service = reader.derived_service(&resource);
    let found = service.and_then(|service| Some((ports::of_object(reader, &service)?.1, service)));
    let Some((known, service)) = found else {
        return Err((
            "TargetNotFound",
            format!("there is no Service {object} with endpoints of the mesh"),
        ));
    };
    let meant = meant(target, &known);
    if let (Some(section), []) = (&target.section, &*meant) {
        let message = format!("Service {object} has no port named {section}");
        return Err(("TargetNotFound", message));
    }
    if backend::scopes(reader, &resource, &service).is_empty() {
        let message = format!(
            "no waypoint of Culvert sends requests to Service {object}: connections are as applications make them"
        );
        return Err(("TargetNotFound", message));
    }
    let mut others = backend_tls::found(reader, &object).into_iter();
    let first = others.find(|(section, ..)| *section == target.section);
    if let Some((_, other, _)) = first.filter(|(_, other, _)| *other != name) {
        let message = format!("BackendTLSPolicy {other} is for the same, and holds: of two the older does");
        return Err(("Conflicted", message));
    }
    overruled(reader, name, &service, &meant)
}

/// The ports that a target means.
fn meant(target: &Target, known: &[ServicePort]) -> Vec<u16> {
    let named = |port: &&ServicePort| match &target.section {
        None => true,
        Some(name) => backend_tls::is_port(port, name),
    };
    let numbers = known.iter().filter(named);
    numbers.filter_map(|port| u16::try_from(port.port).ok()).collect()
}

/// Whether a DestinationRule says otherwise, at any port where the policy would hold: it is the more exact one, as with Istio.
fn overruled(reader: &Reader<'_>, name: &ObjectName, service: &Service, meant: &[u16]) -> Result<(), Refused> {
    let policies = Policies::of(reader, service);
    let rule = hosts::policy(reader, service);
    let says_otherwise = |port: &u16| {
        let is_ours = policies.holding(*port).is_some_and(|(holds, _)| holds == name);
        is_ours && rule.at_port(*port, None).tls != Said::Nothing
    };
    let Some(port) = meant.iter().copied().find(says_otherwise) else {
        return Ok(());
    };
    let rules = hosts::destination_rules(reader, service);
    let title = rules.first().map(|(name, _)| format!("DestinationRule {name}"));
    let message = format!(
        "{} says of port {port} what TLS there is, and comes before the policy",
        title.unwrap_or_else(|| "a DestinationRule".to_owned())
    );
    Err(("Conflicted", message))
}

fn conditions(reading: &Reading, notes: &Notes, accepted: Result<(), Refused>) -> Vec<Condition> {
    let (unresolved, refused): (Vec<&Note>, Vec<&Note>) =
        notes.all().iter().partition(|note| note.unresolved.is_some());
    let (holds, reason, message) = match accepted {
        Err((reason, message)) => (false, reason, message),
        Ok(()) if reading.has_no_authority => (false, "NoValidCACertificate", joined(&unresolved)),
        Ok(()) if reading.tls.is_none() => (false, "Invalid", joined(&refused)),
        Ok(()) => (true, "Accepted", "the policy is in force".to_owned()),
    };
    let reason_of_references = unresolved.first().and_then(|note| note.unresolved);
    vec![
        Condition {
            kind: "Accepted",
            holds,
            reason,
            message,
        },
        Condition {
            kind: "ResolvedRefs",
            holds: unresolved.is_empty(),
            reason: reason_of_references.unwrap_or("ResolvedRefs"),
            message: match unresolved.is_empty() {
                true => "all certificates are there".to_owned(),
                false => joined(&unresolved),
            },
        },
    ]
}

/// All of them, since each may need to be put right.
fn joined(notes: &[&Note]) -> String {
    let texts: Vec<String> = notes
        .iter()
        .map(|note| format!("{}: {}", note.field, note.message))
        .collect();
    texts.join("; ")
}
