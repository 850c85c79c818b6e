//! Which policies decide about the ports of a Service at its waypoint.

use std::sync::Arc;

use culvert_objects::{
    AuthorizationPolicy, Held, Key, Kind, KindSpec, ObjectName, RequestAuthentication, ServiceEntry, Target,
};
use culvert_policy::istio::request::{self, Layer};
use culvert_proto::workload::Service;

use super::super::reader::Reader;
use super::super::wire;
use super::{providers, scope};
use crate::routing::model::{Access, Check, Policy};
use crate::routing::read::notes::Notes;
use crate::routing::read::tokens;

/// What decides about the ports of a Service that is behind the waypoint of `gateway`.
pub(super) fn of_service(reader: &Reader<'_>, gateway: &ObjectName, service: &Service) -> Access {
    let targets = targets(reader, gateway, service);
    let mut access = Access::default();
    for (name, object) in bound::<RequestAuthentication>(reader, &targets) {
        let _ = name;
        access.tokens.extend(tokens::rules(
            &object.spec,
            &|source| reader.fetched(source),
            &mut Notes::default(),
        ));
    }
    for (name, object) in bound::<AuthorizationPolicy>(reader, &targets) {
        let read = |layer| {
            let reached = request::requests(&name.namespace, &object.spec, object.dry_run.as_deref(), layer);
            reached.policy.map(|policy| Policy {
                name: name.to_string(),
                policy,
            })
        };
        if let Some(Err(policy)) = read(Layer::Requests).map(|policy| ask(reader, &mut access, policy)) {
            access.requests.push(policy);
        }
        access.connections.extend(read(Layer::Connections));
    }
    access
}

/// The objects that decide about a Service at a waypoint.
pub(super) fn objects(reader: &Reader<'_>, gateway: &ObjectName, service: &Service) -> Vec<(Kind, ObjectName)> {
    let targets = targets(reader, gateway, service);
    let tokens = bound::<RequestAuthentication>(reader, &targets).into_iter();
    let tokens = tokens.map(|(name, _)| (Kind::RequestAuthentication, name.clone()));
    let policies = bound::<AuthorizationPolicy>(reader, &targets).into_iter();
    let policies = policies.map(|(name, _)| (Kind::AuthorizationPolicy, name.clone()));
    tokens.chain(policies).collect()
}

/// Adds a policy to those by which its provider is asked. An error is the policy, where nobody is asked by it.
fn ask(reader: &Reader<'_>, access: &mut Access, policy: Policy) -> Result<(), Policy> {
    let asked = policy
        .policy
        .asks
        .as_deref()
        .map(|name| providers::authorizer(reader, name));
    let Some(Ok((provider, backend))) = asked else {
        return Err(policy);
    };
    match access
        .checks
        .iter_mut()
        .find(|check| check.provider.name == provider.name)
    {
        Some(check) => check.policies.push(policy),
        None => access.checks.push(Check {
            provider: provider.clone(),
            backend,
            policies: vec![policy],
        }),
    }
    Ok(())
}

/// An object that policies may be for, and where they must be.
struct Aim {
    kind: &'static str,
    name: ObjectName,
    /// The namespace of those that count.
    policies: Arc<str>,
}

/// What a policy may be for that is to decide about a Service: itself, its waypoint, and the class of that.
fn targets(reader: &Reader<'_>, gateway: &ObjectName, service: &Service) -> Vec<Aim> {
    let own = |kind, name: ObjectName| Aim {
        kind,
        policies: Arc::clone(&name.namespace),
        name,
    };
    let mut found = Vec::new();
    let object = wire::object_of_host(reader.settings(), &service.hostname);
    let object = object
        .filter(|name| *name.namespace == *service.namespace && reader.get::<culvert_objects::Service>(name).is_some());
    match object {
        Some(name) => found.push(own("Service", name)),
        None => {
            let entries = reader.find::<ServiceEntry>(Key::host(&service.hostname));
            let here = entries.filter(|(name, entry)| {
                *name.namespace == *service.namespace && entry.hosts.iter().any(|(_, host)| **host == *service.hostname)
            });
            found.extend(here.map(|(name, _)| own("ServiceEntry", name.clone())));
        }
    }
    found.push(own("Gateway", gateway.clone()));
    let class = scope::gateway(reader, gateway).and_then(|gateway| gateway.spec["gatewayClassName"].as_str());
    found.extend(class.map(|class| Aim {
        kind: "GatewayClass",
        name: ObjectName::cluster(class),
        policies: reader.settings().root_namespace.as_str().into(),
    }));
    found
}

/// The objects for these, each once: those for the first first.
fn bound<'a, T: Held + KindSpec>(reader: &Reader<'a>, targets: &[Aim]) -> Vec<(&'a ObjectName, &'a Arc<T>)> {
    let mut found: Vec<(&ObjectName, &Arc<T>)> = Vec::new();
    for aim in targets {
        let mut here: Vec<_> = reader
            .find::<T>(Key::target(aim.kind, &aim.name))
            .filter(|(name, object)| {
                let mut targets = object.binding().into_iter().flat_map(|binding| binding.targets());
                *name.namespace == *aim.policies && targets.any(|target| is_for(target, name, aim))
            })
            .collect();
        here.sort_by_key(|(name, _)| *name);
        found.extend(here);
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|(name, _)| seen.insert(*name));
    found
}

fn is_for(target: &Target, policy: &ObjectName, aim: &Aim) -> bool {
    *target.kind == *aim.kind && scope::is_target_group(target) && target.object(policy) == aim.name
}
