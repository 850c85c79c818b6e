//! How many routes are attached to each Gateway, kept up to date by what changed between two states.

use std::collections::BTreeMap;

use culvert_objects::{Kind, Object, ObjectName, Objects};

use super::gateway::ROUTES;

/// Attachments of all routes.
#[derive(Debug, Default)]
pub(super) struct Attached {
    objects: Objects,
    counts: BTreeMap<ObjectName, usize>,
}

impl Attached {
    /// Takes a new state in.
    pub(super) fn update(&mut self, now: &Objects) {
        let before = std::mem::replace(&mut self.objects, now.clone());
        for kind in Kind::followed().filter(|kind| ROUTES.contains(&kind.name())) {
            for name in before.changed(kind, now) {
                for gateway in before.get(kind, &name).iter().flat_map(gateways) {
                    if let Some(count) = self.counts.get_mut(&gateway) {
                        *count -= 1;
                    }
                }
                for gateway in now.get(kind, &name).iter().flat_map(gateways) {
                    *self.counts.entry(gateway).or_default() += 1;
                }
            }
        }
        self.counts.retain(|_, count| *count > 0);
    }

    /// How many routes name this Gateway as a parent.
    pub(super) fn to(&self, gateway: &ObjectName) -> usize {
        self.counts.get(gateway).copied().unwrap_or_default()
    }
}

/// The Gateways that a route names as parents, each once.
fn gateways(route: &Object) -> Vec<ObjectName> {
    let namespace = route.name().namespace;
    let parents: Vec<_> = match route {
        Object::HTTPRoute(route) => route.parents().collect(),
        Object::GRPCRoute(route) => route.parents().collect(),
        Object::TLSRoute(route) => route.parents().collect(),
        Object::TCPRoute(route) => route.parents().collect(),
        _ => Vec::new(),
    };
    let parents = parents.into_iter().filter(|parent| parent.kind == "Gateway");
    let mut found: Vec<ObjectName> = parents.map(|parent| parent.object(&namespace)).collect();
    found.sort();
    found.dedup();
    found
}
