//! Which TrafficPolicies hold at the ports of a Service and at the rules of a route.
//!
//! A policy is for objects of its own namespace. Of two for the same the older holds; one for a port or a rule by its name holds there in
//! the place of one for the whole. One for a route holds beside one for the Service: limits of both count.

use std::sync::Arc;
use std::time::Duration;

use culvert_objects::mesh_config::ProviderKind;
use culvert_objects::{GRPCRoute, HTTPRoute, Held, Key, ObjectName, Reference, TrafficPolicy, Written};
use culvert_proto::workload::Service;

use super::super::mesh_config;
use super::super::reader::Reader;
use super::super::wire;
use super::frontend::{self, Frontend, Sort};
use super::{providers, scope};
use crate::routing::policy::{Applied, Counter, GlobalLimit, TrafficPolicy as Policy};
use crate::routing::read::notes::Notes;
use crate::routing::read::policy::{self, Target};

/// The least time that a service gets: none at all would be any.
const LEAST: Duration = Duration::from_millis(1);
const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// Of routes that policies may be for.
pub(super) const ROUTES: [&str; 2] = ["HTTPRoute", "GRPCRoute"];

/// What holds at a port: first what is for all of its requests, then what is for those of routes.
pub(super) fn at_port(reader: &Reader<'_>, frontend: &Frontend, port: u16) -> Vec<Applied> {
    let mut found: Vec<Applied> = of_port(reader, frontend, port).into_iter().collect();
    for kind in ROUTES {
        let mut of_routes: Vec<_> = reader.find::<TrafficPolicy>(Key::any_target(kind)).collect();
        of_routes.sort_by_key(|(name, _)| *name);
        for (name, object) in of_routes {
            let holds_here = policy::targets(&object.spec, &mut Notes::default())
                .iter()
                .any(|(_, target)| target.kind == kind && is_at(reader, name, target, frontend));
            let is_there = found.iter().any(|known| *known.name == *name.to_string());
            if holds_here && !is_there {
                found.extend(applied(reader, name, object, false));
            }
        }
    }
    found
}

/// What holds for all requests and endpoints of a port.
pub(super) fn of_port(reader: &Reader<'_>, frontend: &Frontend, port: u16) -> Option<Applied> {
    if frontend.sort() != Sort::Service {
        return None;
    }
    let (name, object) = holding(reader, "Service", &frontend.object, frontend.name_of(port))?;
    applied(reader, name, object, true)
}

/// The policy of a rule of a route, by the rule's own name if it has one.
pub(super) fn of_rule(reader: &Reader<'_>, kind: &str, route: &ObjectName, rule: Option<&str>) -> Option<Arc<str>> {
    holding(reader, kind, route, rule).map(|(name, _)| name.to_string().into())
}

/// A policy of a rule, by the name that [`of_rule`] has given.
pub(super) fn of_name(reader: &Reader<'_>, name: &str) -> Option<Applied> {
    let (namespace, own) = name.split_once('/')?;
    let name = ObjectName::new(namespace, own);
    applied(reader, &name, reader.get::<TrafficPolicy>(&name)?, false)
}

/// What holds for a part of an object, or else for the whole.
fn holding<'a>(
    reader: &Reader<'a>,
    kind: &str,
    object: &ObjectName,
    section: Option<&str>,
) -> Option<(&'a ObjectName, &'a Arc<TrafficPolicy>)> {
    section
        .and_then(|section| oldest(reader, kind, object, Some(section)))
        .or_else(|| oldest(reader, kind, object, None))
}

/// The oldest of those for exactly this.
pub(super) fn oldest<'a>(
    reader: &Reader<'a>,
    kind: &str,
    object: &ObjectName,
    section: Option<&str>,
) -> Option<(&'a ObjectName, &'a Arc<TrafficPolicy>)> {
    let all = reader.find::<TrafficPolicy>(Key::target(kind, object));
    let here = all.filter(|(name, policy)| {
        let is_meant = |target: &Target| {
            target.kind == kind
                && target.group == group(kind)
                && *target.name == *object.name
                && target.section_name.as_deref() == section
        };
        let mut notes = Notes::default();
        name.namespace == object.namespace
            && policy::targets(&policy.spec, &mut notes)
                .iter()
                .any(|(_, target)| is_meant(target))
            && policy::policy(&policy.spec, &mut notes).is_some()
    });
    here.min_by_key(|(name, policy)| (policy.created.as_ref().map(|time| time.0), *name))
}

/// The group of a kind that policies may be for.
pub(super) fn group(kind: &str) -> &'static str {
    if ROUTES.contains(&kind) { GATEWAY_API } else { "" }
}

/// Whether a policy holds for a route at what that is for.
fn is_at(reader: &Reader<'_>, policy: &ObjectName, target: &Target, frontend: &Frontend) -> bool {
    let route = ObjectName::new(Arc::clone(&policy.namespace), target.name.as_str());
    let holds = oldest(reader, &target.kind, &route, target.section_name.as_deref());
    holds.is_some_and(|(name, _)| name == policy)
        && match target.kind.as_str() {
            "HTTPRoute" => has_parent::<HTTPRoute>(reader, &route, frontend),
            _ => has_parent::<GRPCRoute>(reader, &route, frontend),
        }
}

fn has_parent<T: Held + Parents>(reader: &Reader<'_>, route: &ObjectName, frontend: &Frontend) -> bool {
    let own = (frontend.sort(), frontend.object.clone());
    reader
        .get::<T>(route)
        .is_some_and(|object| object.frontends(route).contains(&own))
}

/// What says for which objects a route is.
trait Parents {
    fn frontends(&self, own: &ObjectName) -> Vec<(Sort, ObjectName)>;
}

impl<M> Parents for Written<M> {
    fn frontends(&self, own: &ObjectName) -> Vec<(Sort, ObjectName)> {
        let one = |parent: Reference<'_>| {
            let sort = Sort::of(parent.group, parent.kind)?;
            Some((sort, parent.object(&own.namespace)))
        };
        self.parents().filter_map(one).collect()
    }
}

/// The waypoints whose policies ask a service that counts.
pub(super) fn counter_scopes(reader: &Reader<'_>, service: &Service) -> Vec<Arc<str>> {
    let own = wire::host_name(&service.namespace, &service.hostname);
    let providers = mesh_config::of(reader).into_iter().flat_map(|config| &config.providers);
    let mut found = Vec::new();
    for provider in providers {
        if let ProviderKind::RateLimit(limit) = &provider.kind
            && providers::resource(reader, &limit.service).as_deref() == Some(&own)
        {
            for (name, object) in reader.find::<TrafficPolicy>(Key::provider(&provider.name)) {
                found.extend(scopes(reader, name, object));
            }
        }
    }
    found
}

/// The waypoints at which a policy may hold.
pub(super) fn scopes(reader: &Reader<'_>, name: &ObjectName, object: &TrafficPolicy) -> Vec<Arc<str>> {
    let targets = policy::targets(&object.spec, &mut Notes::default());
    let frontends = targets.into_iter().flat_map(|(_, target)| {
        let own = ObjectName::new(Arc::clone(&name.namespace), target.name.as_str());
        match target.kind.as_str() {
            "HTTPRoute" => reader
                .get::<HTTPRoute>(&own)
                .map(|route| route.frontends(&own))
                .unwrap_or_default(),
            "GRPCRoute" => reader
                .get::<GRPCRoute>(&own)
                .map(|route| route.frontends(&own))
                .unwrap_or_default(),
            _ => vec![(Sort::Service, own)],
        }
    });
    frontends
        .flat_map(|(sort, object)| frontend::services(reader, sort, &object))
        .flat_map(|(_, service)| scope::of_service(reader, &service))
        .collect()
}

/// Who counts for a policy.
///
/// # Errors
/// Why nobody does.
pub(super) fn counter(reader: &Reader<'_>, limit: &GlobalLimit) -> Result<Counter, String> {
    let (provider, backend) = providers::counter(reader, &limit.provider)?;
    let host = provider
        .service
        .split_once('/')
        .map_or(provider.service.as_str(), |(_, host)| host);
    Ok(Counter {
        backend: Some(backend),
        host: host.to_owned(),
        fails_open: limit.fails_open.unwrap_or(provider.fail_open),
        timeout: limit.timeout.unwrap_or(provider.timeout).max(LEAST),
    })
}

fn applied(reader: &Reader<'_>, name: &ObjectName, object: &TrafficPolicy, is_for_all: bool) -> Option<Applied> {
    // What is wrong with the object is said where it is looked at by itself.
    let policy: Policy = policy::policy(&object.spec, &mut Notes::default())?;
    Some(Applied {
        name: name.to_string().into(),
        counter: policy.global.as_ref().map(|limit| {
            counter(reader, limit).unwrap_or_else(|_| Counter {
                backend: None,
                host: limit.provider.clone(),
                fails_open: limit.fails_open.unwrap_or(false),
                timeout: LEAST,
            })
        }),
        is_for_all,
        policy: Arc::new(policy),
    })
}
