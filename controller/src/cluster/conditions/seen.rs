//! What is to be said in the status of objects, and of which it may be other than before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use culvert_objects::{Finding, Findings, Kind, ObjectName, Objects};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::in_force::{self, InForce};
use super::parents::{self, ANCESTORS, PARENTS, Place};
use crate::model::{Allocations, RouteStatus, RouteStatuses};
use crate::state::State;

/// An object.
pub(super) type Reference = (Kind, ObjectName);

/// What is said of an object.
pub(super) enum Said {
    /// Whether it is in force, and the addresses of its hosts.
    InForce { in_force: InForce, addresses: Vec<Value> },
    /// What it comes to at its parents, or at its targets.
    Parents(Place, Arc<RouteStatus>),
    /// What it comes to as a whole.
    Whole(Arc<RouteStatus>),
}

/// The objects that have a status of ours, and what is to be said of them.
#[derive(Debug, Default)]
pub(super) struct Seen {
    objects: Objects,
    findings: Findings,
    allocations: Allocations,
    routes: RouteStatuses,
    /// Those of the findings that say what proxies refuse.
    refused: BTreeSet<Finding>,
    /// By the object's title.
    messages: BTreeMap<String, BTreeSet<Arc<Finding>>>,
}

impl Seen {
    /// Takes a new state in, and returns the objects that are others or of which something else is to be said.
    pub(super) fn update(&mut self, state: &State) -> BTreeSet<Reference> {
        let objects = std::mem::replace(&mut self.objects, state.loaded.objects.clone());
        let findings = std::mem::replace(&mut self.findings, state.loaded.findings.clone());
        let allocations = std::mem::replace(&mut self.allocations, state.allocations.clone());
        let routes = std::mem::replace(&mut self.routes, state.routes.clone());
        // What is other there is other among the findings.
        self.refused = state.refused.findings.iter().cloned().collect();
        let mut changed: BTreeSet<Reference> = routes.changed(&self.routes).into_iter().collect();
        for kind in kinds() {
            changed.extend(
                objects
                    .changed(kind, &self.objects)
                    .into_iter()
                    .map(|name| (kind, name)),
            );
        }
        let allocated = allocations.changed(&self.allocations).into_iter();
        changed.extend(allocated.map(|name| (Kind::ServiceEntry, name)));
        let same = |(): &(), (): &()| true;
        let messages = &mut self.messages;
        findings.diff(&self.findings, same, |finding: &Arc<Finding>, _, is: Option<&()>| {
            let Some(title) = &finding.object else { return };
            let of_object = messages.entry(title.clone()).or_default();
            match is {
                Some(()) => drop(of_object.insert(Arc::clone(finding))),
                None => drop(of_object.remove(finding)),
            }
            if of_object.is_empty() {
                messages.remove(title);
            }
            changed.extend(reference(title));
        });
        changed.retain(|(kind, name)| self.objects.get(*kind, name).is_some());
        changed
    }

    /// All of them.
    pub(super) fn all(&self) -> BTreeSet<Reference> {
        let of_kind = |kind: Kind| self.objects.names(kind).map(move |name| (kind, name.clone()));
        kinds().flat_map(of_kind).collect()
    }

    /// The addresses that were chosen for an object's hosts, as its status has them.
    fn addresses(&self, (kind, name): &Reference) -> Vec<Value> {
        let of_entry = (*kind == Kind::ServiceEntry).then(|| self.allocations.of(name));
        let items = of_entry.into_iter().flatten();
        items
            .map(|(host, address)| json!({ "host": host, "value": address }))
            .collect()
    }

    /// What is to be said of an object.
    pub(super) fn said(&self, reference: &Reference) -> Said {
        let (kind, name) = reference;
        if let Some(place) = place(*kind) {
            let status = self.routes.get(reference).cloned();
            return Said::Parents(place, status.unwrap_or_default());
        }
        if is_whole(*kind) {
            return Said::Whole(self.routes.get(reference).cloned().unwrap_or_default());
        }
        let findings = self.messages.get(&format!("{kind} {name}")).into_iter().flatten();
        let findings = findings.map(|finding| &**finding);
        let is_refused = findings.clone().any(|finding| self.refused.contains(finding));
        Said::InForce {
            in_force: InForce::of(findings, is_refused),
            addresses: self.addresses(reference),
        }
    }
}

impl Said {
    /// What is to be written into a status; none if all of it is there.
    pub(super) fn due(&self, status: &Value, now: Timestamp) -> Option<Value> {
        match self {
            Self::InForce { in_force, addresses } => in_force::due(status, in_force, addresses, now),
            Self::Parents(place, said) => parents::due(status, *place, said, now),
            Self::Whole(said) => parents::due_of_object(status, said, now),
        }
    }
}

/// Istio's kinds, whose objects are all in namespaces, routes, and policies.
fn kinds() -> impl Iterator<Item = Kind> {
    let is_istios = |kind: &Kind| kind.descriptor().group.ends_with(".istio.io") && kind.descriptor().namespaced;
    Kind::followed().filter(move |kind| is_istios(kind) || place(*kind).is_some() || is_whole(*kind))
}

/// Where the status of a kind says what an object comes to, as the Gateway API has it.
fn place(kind: Kind) -> Option<Place> {
    match kind {
        Kind::HTTPRoute | Kind::GRPCRoute | Kind::TCPRoute | Kind::TLSRoute | Kind::UDPRoute => Some(PARENTS),
        Kind::BackendTLSPolicy | Kind::TrafficPolicy | Kind::XBackendTrafficPolicy | Kind::XTelemetryPolicy => {
            Some(ANCESTORS)
        }
        _ => None,
    }
}

/// Whether the conditions of a kind are about an object as a whole.
fn is_whole(kind: Kind) -> bool {
    kind == Kind::ListenerSet
}

fn reference(title: &str) -> Option<Reference> {
    let (kind, name) = title.split_once(' ')?;
    let (namespace, name) = name.split_once('/')?;
    let kind = kinds().find(|known| known.name() == kind)?;
    Some((kind, ObjectName::new(namespace, name)))
}

#[cfg(test)]
mod tests;
