//! A TrafficPolicy by itself: what is wrong with it, and what it comes to at each of its targets.

use culvert_objects::{Finding, GRPCRoute, HTTPRoute, Kind, ObjectName, TrafficPolicy};

use super::super::reader::Reader;
use super::super::route_status::{Condition, ParentStatus, RouteStatus};
use super::super::unit::Derived;
use super::super::wire;
use super::status::{self, Refused};
use super::traffic_policies::{self, ROUTES};
use super::{ports, scope};
use crate::routing::model::Parent;
use crate::routing::policy::{Retry, Timeouts, TrafficPolicy as Policy};
use crate::routing::read::notes::Notes;
use crate::routing::read::policy::{self, Target};
use crate::routing::read::{grpc, http};

/// Its findings and its status.
pub(super) fn derive(reader: &Reader<'_>, name: &ObjectName) -> Derived {
    let Some(object) = reader.own::<TrafficPolicy>(name) else {
        return Derived::default();
    };
    let mut notes = Notes::default();
    let targets = policy::targets(&object.spec, &mut notes);
    let read = policy::policy(&object.spec, &mut notes);
    let said = notes
        .all()
        .iter()
        .map(|note| (note.field.clone(), note.message.clone()));
    let mut found: Vec<(String, String)> = said.collect();
    let why = found.iter().map(|(field, message)| format!("{field}: {message}"));
    let why = why.collect::<Vec<_>>().join("; ");
    let mut ancestors = Vec::new();
    for (index, target) in &targets {
        let accepted = match &read {
            None => Err(("Invalid", why.clone())),
            Some(policy) => accepted(reader, name, target, policy),
        };
        let unresolved = read.as_ref().and_then(|policy| unresolved(reader, policy));
        if let (Err((_, message)), Some(_)) = (&accepted, &read) {
            found.push((format!("spec.targetRefs[{index}]"), message.clone()));
        }
        ancestors.push(ParentStatus {
            group: target.group.clone(),
            kind: target.kind.clone(),
            namespace: Some(name.namespace.to_string()),
            name: target.name.clone(),
            section: target.section_name.clone(),
            port: None,
            conditions: std::iter::once(condition("Accepted", accepted))
                .chain(unresolved)
                .collect(),
        });
    }
    if let Some(Err(why)) = read
        .as_ref()
        .and_then(|policy| policy.global.as_ref())
        .map(|limit| traffic_policies::counter(reader, limit))
    {
        found.push(("spec.rateLimit.global.provider".to_owned(), why));
    }
    if read.is_some_and(|policy| policy.health_check.is_some()) {
        let envoys = traffic_policies::scopes(reader, name, object).into_iter();
        for scope in envoys.filter(|gateway| scope::is_envoy(reader, gateway)) {
            let message = format!(
                "waypoint {scope} is Envoy, which cannot check what is behind the tunnel: all endpoints get requests"
            );
            found.push(("spec.healthCheck".to_owned(), message));
        }
    }
    let findings = found.into_iter();
    let findings = findings.map(|(field, message)| Finding::of_object(Kind::TrafficPolicy, name, &field, message));
    Derived {
        findings: findings.collect(),
        status: Some(RouteStatus {
            generation: object.generation,
            parents: ancestors,
        }),
        ..Derived::default()
    }
}

/// Whether there is the service that a policy names, if it names one.
fn unresolved(reader: &Reader<'_>, policy: &Policy) -> Option<Condition> {
    let found = traffic_policies::counter(reader, policy.global.as_ref()?);
    Some(condition(
        "ResolvedRefs",
        found.map(drop).map_err(|why| ("ProviderNotFound", why)),
    ))
}

fn condition(kind: &'static str, said: Result<(), Refused>) -> Condition {
    let (holds, reason, message) = match said {
        Ok(()) if kind == "ResolvedRefs" => (true, kind, "the provider is there".to_owned()),
        Ok(()) => (true, kind, "the policy is in force".to_owned()),
        Err((reason, message)) => (false, reason, message),
    };
    Condition {
        kind,
        holds,
        reason,
        message,
    }
}

/// Whether a policy is in force for a target.
///
/// # Errors
/// Why it is not.
fn accepted(reader: &Reader<'_>, name: &ObjectName, target: &Target, policy: &Policy) -> Result<(), Refused> {
    let Target { group, kind, .. } = target;
    if group != traffic_policies::group(kind) || !(kind == "Service" || ROUTES.contains(&kind.as_str())) {
        let message =
            format!("a policy is for a Service, an HTTPRoute or a GRPCRoute, not for {kind} of group {group:?}");
        return Err(("Invalid", message));
    }
    let object = ObjectName::new(name.namespace.clone(), target.name.as_str());
    match kind.as_str() {
        "Service" => at_service(reader, &object, target, policy)?,
        _ => at_route(reader, &object, target)?,
    }
    let section = target.section_name.as_deref();
    match traffic_policies::oldest(reader, kind, &object, section) {
        Some((holds, _)) if holds != name => Err((
            "Conflicted",
            format!("{kind} {object} has TrafficPolicy {holds}, which is older and holds instead"),
        )),
        _ => Ok(()),
    }
}

fn at_service(reader: &Reader<'_>, object: &ObjectName, target: &Target, policy: &Policy) -> Result<(), Refused> {
    let missing = |message: String| Err(("TargetNotFound", message));
    let Some(service) = reader.derived_service(&wire::service_name(reader.settings(), object)) else {
        return missing(format!("there is no Service {object}"));
    };
    if scope::of_service(reader, &service).is_empty() {
        return missing(format!(
            "Service {object} is behind no waypoint of Culvert that takes it"
        ));
    }
    let found = ports::of_object(reader, &service);
    let known = found.as_ref().map(|(_, ports)| ports.as_slice()).unwrap_or_default();
    let is_meant = |port: &u16| match &target.section_name {
        None => true,
        Some(section) => {
            let mut known = known.iter();
            known.any(|known| known.name.as_ref() == Some(section) && known.port == i32::from(*port))
        }
    };
    let mut meant = ports::of_service(&service).filter(is_meant).peekable();
    if meant.peek().is_none() {
        return missing(format!("Service {object} has no such port"));
    }
    let needs_http = !policy.local.is_empty()
        || policy.global.is_some()
        || policy.compression.is_some()
        || policy.timeouts != Timeouts::default()
        || policy.retry != Retry::default();
    if needs_http && !meant.any(|port| ports::protocol(&service, found.as_ref(), port).is_http()) {
        let message = format!("no such port of Service {object} speaks HTTP, which all but healthCheck is for");
        return Err(("Invalid", message));
    }
    Ok(())
}

fn at_route(reader: &Reader<'_>, object: &ObjectName, target: &Target) -> Result<(), Refused> {
    let missing = |message: String| Err(("TargetNotFound", message));
    let kind = target.kind.as_str();
    let mut notes = Notes::default();
    let (kind, spec) = match kind {
        "HTTPRoute" => (
            Kind::HTTPRoute,
            reader.get::<HTTPRoute>(object).map(|object| &object.spec),
        ),
        _ => (
            Kind::GRPCRoute,
            reader.get::<GRPCRoute>(object).map(|object| &object.spec),
        ),
    };
    let Some(spec) = spec else {
        return missing(format!("there is no {kind} {object}"));
    };
    if let Some(section) = &target.section_name {
        let mut rules = spec["rules"].as_array().into_iter().flatten();
        if !rules.any(|rule| rule["name"] == **section) {
            return missing(format!("{kind} {object} has no rule {section:?}"));
        }
    }
    let parents: Vec<Parent> = match kind {
        Kind::HTTPRoute => http::parents(spec, &mut notes),
        _ => grpc::parents(spec, &mut notes),
    };
    let mut services = parents.iter().filter(|parent| status::is_frontend(parent));
    if services.any(|parent| status::accepted(reader, kind, object, parent).is_ok()) {
        return Ok(());
    }
    missing(format!("{kind} {object} is in force at no Service or ServiceEntry"))
}
