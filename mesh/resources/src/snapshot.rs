//! All resources at one moment, as they go over the wire, with the names by which they are found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use culvert_envoy::{CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE};
use culvert_objects::PersistentMap;
use culvert_proto::security::Authorization;
use culvert_proto::workload::Address;
use culvert_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE, MESH_TYPE};
use culvert_xds::server::{Entry, Named, Resources};
use prost::Message as _;

mod groups;
mod resource;

use groups::Groups;
pub(crate) use resource::asking_for;
pub use resource::{Resource, to_address};

/// Type of what says which waypoint a pod is of: a resource named `NAMESPACE/POD` in that waypoint's scope. Served to nobody.
pub const PROXY_TYPE: &str = "culvert.dev/proxy";

/// Type of endpoints as waypoints of one place see them: named by [`placed`], beside those of the same cluster for everybody. Served under the
/// name and the type of those.
pub const PLACED_TYPE: &str = "culvert.dev/placed-endpoints";

/// The name of a cluster's endpoints for waypoints of one place, which is a node's name or `REGION/ZONE/SUBZONE`.
pub fn placed(cluster: &str, place: &str) -> String {
    format!("{cluster} {place}")
}

/// The place that a pod of a waypoint is by itself, where its labels count. No name of a node and no locality has one slash alone.
pub fn place_of_pod(name: &str) -> String {
    format!("pod/{name}")
}

/// Resources by type and name, and for addresses by alias, by service and by node. A copy shares all of it, and costs
/// nothing; a change costs the way to its place.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    addresses: Names<Arc<Held>>,
    authorizations: Names<Arc<Held>>,
    mesh: Names<Arc<Held>>,
    /// What waypoints are told, each in the scope of one of them.
    listeners: Names<Arc<Held>>,
    routes: Names<Arc<Held>>,
    clusters: Names<Arc<Held>>,
    endpoints: Names<Arc<Held>>,
    placed: Names<Arc<Held>>,
    proxies: Names<Arc<Held>>,
    /// The names of a type's resources in a scope.
    by_scope: Groups,
    by_alias: Groups,
    /// Workloads of a service, by the service's resource name.
    by_service: Groups,
    by_node: Groups,
}

type Names<T> = PersistentMap<Arc<str>, T>;

/// A resource, and what it is found by.
#[derive(Debug)]
struct Held {
    entry: Entry,
    services: Box<[Arc<str>]>,
    node: Option<Arc<str>>,
    /// Where the object is that it was made of; none for what belongs to the mesh as a whole.
    namespace: Option<Arc<str>>,
    /// The waypoint that it is for, if it is for one.
    scope: Option<Arc<str>>,
}

impl Snapshot {
    /// Adds or replaces a resource. One that is as before changes nothing.
    pub fn set(&mut self, resource: Resource) {
        let Resource {
            type_url,
            name,
            mut entry,
            namespace,
            scope,
            aliases,
            services,
            node,
        } = resource;
        if self.version(type_url, &name) == Some(entry.digest) {
            return;
        }
        self.remove(type_url, &name);
        if let Some(scope) = &scope {
            self.by_scope.add(&scoped(type_url, scope), &name);
        }
        let Some(resources) = self.of_type_mut(type_url) else {
            return;
        };
        if type_url != ADDRESS_TYPE {
            let held = Held {
                entry,
                services: Box::default(),
                node: None,
                namespace,
                scope,
            };
            resources.insert(name, Arc::new(held));
            return;
        }
        entry.aliases = aliases.iter().map(|alias| self.by_alias.add(alias, &name)).collect();
        let services = services
            .iter()
            .map(|service| self.by_service.add(service, &name))
            .collect();
        let node = (!node.is_empty()).then(|| self.by_node.add(&node, &name));
        let held = Held {
            entry,
            services,
            node,
            namespace,
            scope: None,
        };
        self.addresses.insert(name, Arc::new(held));
    }

    /// Removes a resource, if it is there.
    pub fn remove(&mut self, type_url: &str, name: &str) {
        let Some(held) = self.of_type_mut(type_url).and_then(|resources| resources.remove(name)) else {
            return;
        };
        if let Some(scope) = &held.scope {
            self.by_scope.take(&scoped(type_url, scope), name);
        }
        if type_url != ADDRESS_TYPE {
            return;
        }
        for alias in held.entry.aliases.iter() {
            self.by_alias.take(alias, name);
        }
        for service in &held.services {
            self.by_service.take(service, name);
        }
        if let Some(node) = &held.node {
            self.by_node.take(node, name);
        }
    }

    /// By what a client may have asked for the resource `name`, if it is there: its own name and aliases, and for a
    /// workload the names and aliases of its services; for what is one waypoint's that waypoint's scope, which no resource of it is
    /// called.
    pub fn keys(&self, type_url: &str, name: &str) -> BTreeSet<Arc<str>> {
        let resources = self.of_type(type_url);
        let Some((name, held)) = resources.and_then(|resources| resources.get_key_value(name)) else {
            return BTreeSet::new();
        };
        let services = held.services.iter().filter_map(|service| resources?.get(service));
        let aliases = services.chain([held]).flat_map(|held| held.entry.aliases.iter());
        let names = held.services.iter().chain([name]).cloned();
        aliases.cloned().chain(names).chain(held.scope.clone()).collect()
    }

    /// Whether `name` is a resource's name or alias.
    pub fn knows(&self, type_url: &str, name: &str) -> bool {
        let is_name = self
            .of_type(type_url)
            .is_some_and(|resources| resources.get(name).is_some());
        is_name || type_url == ADDRESS_TYPE && self.by_alias.has(name)
    }

    /// What distinguishes the contents of a resource; none if it is not there.
    pub fn version(&self, type_url: &str, name: &str) -> Option<u64> {
        Some(self.of_type(type_url)?.get(name)?.entry.digest)
    }

    /// All resources of type Address, as messages, by name.
    pub fn addresses(&self) -> BTreeMap<String, Address> {
        let decoded = |(name, held): (&Arc<str>, &Arc<Held>)| {
            let address = Address::decode(&*held.entry.body).ok()?;
            Some((name.to_string(), address))
        };
        self.addresses.iter().filter_map(decoded).collect()
    }

    /// All policies, as messages, by name.
    pub fn authorizations(&self) -> BTreeMap<String, Authorization> {
        let decoded = |(name, held): (&Arc<str>, &Arc<Held>)| {
            let policy = Authorization::decode(&*held.entry.body).ok()?;
            Some((name.to_string(), policy))
        };
        self.authorizations.iter().filter_map(decoded).collect()
    }

    /// How many resources there are of type Address.
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }
}

impl Resources for Snapshot {
    fn all<'a>(&'a self, type_url: &str) -> Option<Named<'a>> {
        let resources = self.of_type(type_url)?.iter();
        Some(Box::new(resources.map(|(name, held)| (name, &held.entry))))
    }

    fn get(&self, type_url: &str, name: &str) -> Option<&Entry> {
        Some(&self.of_type(type_url)?.get(name)?.entry)
    }

    /// A name or alias brings the resource; a service, by either, its workloads too.
    fn expand(&self, type_url: &str, name: &str) -> Vec<Arc<str>> {
        let Some(resources) = self.of_type(type_url) else {
            return Vec::new();
        };
        let mut found: BTreeSet<&Arc<str>> = BTreeSet::new();
        found.extend(resources.get_key_value(name).map(|(name, _)| name));
        if type_url == ADDRESS_TYPE {
            found.extend(self.by_alias.of(name));
            let workloads: Vec<&Arc<str>> = found.iter().flat_map(|name| self.by_service.of(name)).collect();
            found.extend(workloads);
        }
        found.into_iter().cloned().collect()
    }

    fn initial(&self, type_url: &str, node: &str) -> Vec<Arc<str>> {
        match type_url {
            ADDRESS_TYPE => self.by_node.of(node).cloned().collect(),
            MESH_TYPE => self.mesh.keys().cloned().collect(),
            _ => Vec::new(),
        }
    }
}

impl Snapshot {
    /// The name of a resource that is there, with the text that all share who hold it.
    pub fn shared(&self, type_url: &str, name: &str) -> Option<Arc<str>> {
        let (name, _) = self.of_type(type_url)?.get_key_value(name)?;
        Some(Arc::clone(name))
    }

    /// The namespace of the object that a resource was made of; none if it was made of no single one, or is not there.
    pub fn namespace(&self, type_url: &str, name: &str) -> Option<&str> {
        self.of_type(type_url)?.get(name)?.namespace.as_deref()
    }

    /// The waypoint that a resource is for; none if it is not for one, or is not there.
    pub fn scope(&self, type_url: &str, name: &str) -> Option<&Arc<str>> {
        self.of_type(type_url)?.get(name)?.scope.as_ref()
    }

    /// The names of a type's resources that are for one waypoint.
    pub fn in_scope<'a>(&'a self, type_url: &str, scope: &str) -> impl Iterator<Item = &'a Arc<str>> + use<'a> {
        self.by_scope.of(&scoped(type_url, scope))
    }

    /// A Workload or a Service that is there, as a message.
    pub fn address(&self, name: &str) -> Option<Address> {
        Address::decode(&*self.addresses.get(name)?.entry.body).ok()
    }

    /// The names of the services that a Workload belongs to.
    pub fn services_of(&self, workload: &str) -> impl Iterator<Item = &Arc<str>> {
        self.addresses.get(workload).into_iter().flat_map(|held| &held.services)
    }

    /// The names of a service's Workloads.
    pub fn workloads_of(&self, service: &str) -> impl Iterator<Item = &Arc<str>> {
        self.by_service.of(service)
    }

    fn of_type(&self, type_url: &str) -> Option<&Names<Arc<Held>>> {
        match type_url {
            ADDRESS_TYPE => Some(&self.addresses),
            AUTHORIZATION_TYPE => Some(&self.authorizations),
            MESH_TYPE => Some(&self.mesh),
            LISTENER_TYPE => Some(&self.listeners),
            ROUTE_TYPE => Some(&self.routes),
            CLUSTER_TYPE => Some(&self.clusters),
            ENDPOINT_TYPE => Some(&self.endpoints),
            PLACED_TYPE => Some(&self.placed),
            PROXY_TYPE => Some(&self.proxies),
            _ => None,
        }
    }

    fn of_type_mut(&mut self, type_url: &str) -> Option<&mut Names<Arc<Held>>> {
        match type_url {
            ADDRESS_TYPE => Some(&mut self.addresses),
            AUTHORIZATION_TYPE => Some(&mut self.authorizations),
            MESH_TYPE => Some(&mut self.mesh),
            LISTENER_TYPE => Some(&mut self.listeners),
            ROUTE_TYPE => Some(&mut self.routes),
            CLUSTER_TYPE => Some(&mut self.clusters),
            ENDPOINT_TYPE => Some(&mut self.endpoints),
            PLACED_TYPE => Some(&mut self.placed),
            PROXY_TYPE => Some(&mut self.proxies),
            _ => None,
        }
    }
}

/// What the names of a type's resources in a scope are filed under.
fn scoped(type_url: &str, scope: &str) -> String {
    format!("{type_url} {scope}")
}
