//! What the backends of a route lead to.

use culvert_objects::{Key, ObjectName, ReferenceGrant, Written};
use culvert_proto::workload::Service;

use super::super::reader::Reader;
use super::frontend::{self, Sort};
use super::{discovery, hosts, ports};
use crate::routing::model::Backend;
use crate::routing::read::notes::{BackendRef, Resolve, Unresolved};

const GROUP: &str = "gateway.networking.k8s.io";
const ISTIO: &str = "networking.istio.io";

/// Looks up backends for one route object.
pub(super) struct Resolver<'a, 'b> {
    reader: &'b Reader<'a>,
    kind: &'static str,
    route: &'b ObjectName,
    /// The Services that the route is for.
    parents: Vec<ObjectName>,
    /// The ServiceEntries that it is for.
    entries: Vec<ObjectName>,
}

impl<'a, 'b> Resolver<'a, 'b> {
    pub(super) fn new<M>(
        reader: &'b Reader<'a>,
        kind: &'static str,
        route: &'b ObjectName,
        object: &'b Written<M>,
    ) -> Self {
        let parents = |sort| {
            let meant = object
                .parents()
                .filter(move |parent| Sort::of(parent.group, parent.kind) == Some(sort));
            meant.map(|parent| parent.object(&route.namespace)).collect()
        };
        Self {
            reader,
            kind,
            route,
            parents: parents(Sort::Service),
            entries: parents(Sort::ServiceEntry),
        }
    }

    /// Whether the route is for the ServiceEntry of a host, and nothing else.
    fn is_alone_for(&self, found: &Service) -> bool {
        let is_it = |object: &ObjectName| *object.namespace == *found.namespace && *object.name == *found.name;
        self.parents.is_empty() && self.entries.len() == 1 && self.entries.iter().all(is_it)
    }

    /// A host that the route's namespace sees: no grant is needed beside `exportTo`.
    fn host(&self, reference: &BackendRef<'_>) -> Result<Backend, Unresolved> {
        let host = reference.name.to_ascii_lowercase();
        let unresolved = |reason, message: String| Err(Unresolved { reason, message });
        if reference.namespace.is_some() {
            return unresolved("InvalidKind", format!("host {host:?} is in no namespace"));
        }
        let namespace = &self.route.namespace;
        let missing = format!("there is no host {host:?} that namespace {namespace} sees");
        if !host.contains('.') {
            return unresolved("BackendNotFound", format!("{missing}: a host is a whole name"));
        }
        let service = hosts::resource_name(self.reader, &host, namespace);
        match self.reader.derived_service(&service) {
            Some(found) if discovery::is_dialled(&found) && !self.is_alone_for(&found) => unresolved(
                "BackendNotFound",
                format!("host {host:?} has resolution NONE: only who dials it gets there"),
            ),
            Some(found) => at_port(service, &found, reference.port, &format!("host {host:?}")),
            None => unresolved("BackendNotFound", missing),
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
        if (reference.group, reference.kind) == (ISTIO, "Hostname") {
            return self.host(reference);
        }
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
        let found = frontend::services(self.reader, Sort::Service, &name);
        let Some((service, found)) = found.into_iter().next() else {
            return unresolved("BackendNotFound", format!("there is no Service {name}"));
        };
        at_port(service, &found, reference.port, &format!("Service {name}"))
    }
}

/// A port of what a reference leads to, which is called `label`.
fn at_port(service: String, found: &Service, port: Option<u16>, label: &str) -> Result<Backend, Unresolved> {
    let not_found = |message: String| Unresolved {
        reason: "BackendNotFound",
        message,
    };
    let port = port.ok_or_else(|| not_found(format!("a port of {label} must be named")))?;
    if !ports::of_service(found).any(|known| known == port) {
        return Err(not_found(format!("{label} has no port {port}")));
    }
    Ok(Backend {
        service: service.into(),
        port,
        subset: None,
    })
}
