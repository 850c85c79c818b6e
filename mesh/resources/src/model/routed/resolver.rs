//! What the backends of a route lead to.

use culvert_objects::{Key, ObjectName, ReferenceGrant, Written};

use super::super::reader::Reader;
use super::super::wire;
use super::ports;
use crate::routing::model::Backend;
use crate::routing::read::notes::{BackendRef, Resolve, Unresolved};

const GROUP: &str = "gateway.networking.k8s.io";

/// Looks up backends for one route object.
pub(super) struct Resolver<'a, 'b> {
    reader: &'b Reader<'a>,
    kind: &'static str,
    route: &'b ObjectName,
    /// The Services that the route is for.
    parents: Vec<ObjectName>,
}

impl<'a, 'b> Resolver<'a, 'b> {
    pub(super) fn new<M>(
        reader: &'b Reader<'a>,
        kind: &'static str,
        route: &'b ObjectName,
        object: &'b Written<M>,
    ) -> Self {
        let parents = object
            .parents()
            .filter(|parent| parent.group.is_empty() && parent.kind == "Service");
        Self {
            reader,
            kind,
            route,
            parents: parents.map(|parent| parent.object(&route.namespace)).collect(),
        }
    }

    /// Whether the namespace of a backend lets the route refer to it. What a route is for it may send back to.
    fn is_granted(&self, backend: &ObjectName) -> bool {
        if backend.namespace == self.route.namespace || self.parents.contains(backend) {
            return true;
        }
        let grants = self
            .reader
            .find::<ReferenceGrant>(Key::all_in("ReferenceGrant", &backend.namespace));
        grants
            .filter(|(name, _)| name.namespace == backend.namespace)
            .any(|(_, grant)| {
                let list = |field: &str| grant.spec[field].as_array().into_iter().flatten();
                let is_from = list("from").any(|from| {
                    from["group"] == GROUP && from["kind"] == self.kind && from["namespace"] == *self.route.namespace
                });
                let is_to = list("to").any(|to| {
                    let name = &to["name"];
                    to["group"].as_str().unwrap_or_default().is_empty()
                        && to["kind"] == "Service"
                        && (name.is_null() || *name == *backend.name)
                });
                is_from && is_to
            })
    }
}

impl Resolve for Resolver<'_, '_> {
    fn backend(&self, reference: &BackendRef<'_>) -> Result<Backend, Unresolved> {
        let unresolved = |reason, message: String| Err(Unresolved { reason, message });
        if !reference.group.is_empty() || reference.kind != "Service" {
            let (kind, group) = (reference.kind, reference.group);
            return unresolved(
                "InvalidKind",
                format!("{kind} of group {group:?} is no kind of backend"),
            );
        }
        let namespace = reference.namespace.unwrap_or(&self.route.namespace);
        let name = ObjectName::new(namespace, reference.name);
        if !self.is_granted(&name) {
            let message = format!(
                "no ReferenceGrant in {namespace} lets {} {} refer to Service {name}",
                self.kind, self.route
            );
            return unresolved("RefNotPermitted", message);
        }
        let service = wire::service_name(self.reader.settings(), &name);
        let Some(found) = self.reader.derived_service(&service) else {
            return unresolved("BackendNotFound", format!("there is no Service {name}"));
        };
        let Some(port) = reference.port else {
            return unresolved("BackendNotFound", format!("a port of Service {name} must be named"));
        };
        if !ports::of_service(&found).any(|known| known == port) {
            return unresolved("BackendNotFound", format!("Service {name} has no port {port}"));
        }
        Ok(Backend {
            service: service.into(),
            port,
            subset: None,
        })
    }
}
