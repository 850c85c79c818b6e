//! Objects that would keep somebody out and that nobody enforces: what they bind is denied until they are served or removed.
//!
//! A policy for a Service or a ServiceEntry is enforced where that is behind a waypoint of ours, and by that waypoint.
//!
//! Of kinds that are not served the source of the objects says so in a finding. Of those that are, the finding is that of the
//! field by which it is not enforced.

use std::collections::BTreeMap;

use culvert_objects::{AuthorizationPolicy, Binding, HTTPRoute, Kind, Labels, Object, ObjectName, Target};
use culvert_proto::security::{Action, Authorization, Rule, Scope};
use culvert_proto::workload::PortList;

use super::reader::Reader;
use super::routed::scope;
use super::wire;
use crate::routing::read::http;

/// What comes before kind and name of the object, in the name of its policy.
pub(super) const PREFIX: &str = "culvert_not_enforced";

/// The policy that denies what the object binds; none if it binds nothing that it could keep somebody from.
pub(super) fn policy(reader: &Reader<'_>, name: &ObjectName, object: &Object) -> Option<Authorization> {
    let is_root = *name.namespace == *reader.settings().root_namespace;
    let scope = match object.binding()? {
        Binding::Namespace if is_root => Scope::Global,
        Binding::Namespace => Scope::Namespace,
        Binding::Labels(_) => Scope::WorkloadSelector,
        Binding::Targets(targets)
            if targets
                .iter()
                .any(|target| is_service(target) && !is_enforced(reader, object.kind(), name, target)) =>
        {
            Scope::WorkloadSelector
        }
        // Gateways and the like, of which there are none.
        Binding::Targets(_) => return None,
    };
    Some(Authorization {
        name: policy_name(object.kind(), name),
        namespace: name.namespace.to_string(),
        scope: scope.into(),
        action: Action::Deny.into(),
        rules: vec![Rule::default()],
        ..Authorization::default()
    })
}

/// The object by which nobody may reach the hosts of a ServiceEntry.
pub(super) fn of_service_entry(reader: &Reader<'_>, name: &ObjectName) -> Option<(Kind, ObjectName)> {
    let is_meant = |target: &Target, other: &ObjectName| {
        let namespace = target.namespace.as_deref().unwrap_or(&other.namespace);
        &*target.kind == "ServiceEntry" && *namespace == *name.namespace && *target.name == *name.name
    };
    let meaning = reader.restricting(&name.namespace).filter_map(|(kind, other, object)| {
        let mut targets = object.binding()?.targets().iter();
        targets
            .any(|target| is_meant(target, other) && !is_enforced(reader, kind, other, target))
            .then(|| (kind, other.clone()))
    });
    meaning.min()
}

/// The policies of this kind that select a workload of `namespace` with these labels, which belongs to these services, by their
/// resources' names.
pub(super) fn of_workload(
    reader: &Reader<'_>,
    namespace: &str,
    labels: &Labels,
    services: &BTreeMap<String, PortList>,
) -> Vec<String> {
    let root = reader.settings().root_namespace.as_str();
    let mut namespaces = vec![namespace];
    if root != namespace {
        namespaces.push(root);
    }
    let mut names = Vec::new();
    for namespace in namespaces {
        for (kind, other, object) in reader.restricting(namespace) {
            let is_bound = match object.binding() {
                None | Some(Binding::Namespace) => false,
                Some(binding @ Binding::Labels(_)) => binding.selects(|key| labels.get(key)),
                Some(Binding::Targets(targets)) => targets.iter().filter(|target| is_service(target)).any(|target| {
                    if is_enforced(reader, kind, other, target) {
                        return false;
                    }
                    let namespace = target.namespace.as_deref().unwrap_or(&other.namespace);
                    let service = ObjectName::new(namespace, &*target.name);
                    services.contains_key(&wire::service_name(reader.settings(), &service))
                }),
            };
            if is_bound {
                names.push(format!("{}/{}", other.namespace, policy_name(kind, other)));
            }
        }
    }
    names
}

/// Whether a waypoint enforces an object for a target, or nothing of it is to be enforced.
fn is_enforced(reader: &Reader<'_>, kind: Kind, name: &ObjectName, target: &Target) -> bool {
    match kind {
        Kind::AuthorizationPolicy => {
            let policy = reader.get::<AuthorizationPolicy>(name);
            policy.is_some_and(|policy| !policy.decides()) || scope::of_target(reader, name, target)
        }
        Kind::RequestAuthentication => scope::of_target(reader, name, target),
        // A route of any namespace is for clients of its own. One that cannot be read as a whole asks nobody.
        Kind::HTTPRoute => {
            let own = ObjectName::new(target.object(name).namespace, &*name.name);
            let is_read = || {
                let route = reader.get::<HTTPRoute>(name);
                route.is_some_and(|route| http::is_read(&route.spec))
            };
            scope::of_target(reader, &own, target) && is_read()
        }
        _ => false,
    }
}

fn is_service(target: &Target) -> bool {
    target.group.is_empty() && &*target.kind == "Service"
}

fn policy_name(kind: Kind, name: &ObjectName) -> String {
    format!("{PREFIX}_{kind}_{}", name.name)
}
