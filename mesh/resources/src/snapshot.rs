//! All resources at one moment, as they go over the wire, with the names by which they are found.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use aws_lc_rs::digest;
use culvert_envoy::{CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE};
use culvert_objects::PersistentMap;
use culvert_proto::config::Mesh;
use culvert_proto::security::Authorization;
use culvert_proto::workload::gateway_address::Destination;
use culvert_proto::workload::{Address, NetworkAddress, Workload, address};
use culvert_proto::{
    ADDRESS_TYPE, AUTHORIZATION_TYPE, HOST_ALIAS, MESH_NAME, MESH_TYPE, RANGES_ALIAS, WAYPOINT_PORTS, WILDCARDS_ALIAS,
};
use culvert_xds::server::{Entry, Named, Resources};
use prost::Message as _;

mod groups;

use groups::Groups;

/// Type of what says which waypoint a pod is of: a resource named `NAMESPACE/POD` in that waypoint's scope. Served to nobody.
pub const PROXY_TYPE: &str = "culvert.dev/proxy";

/// Type of endpoints as waypoints of one place see them: named by [`placed`], beside those of the same cluster for everybody. Served under the
/// name and the type of those.
pub const PLACED_TYPE: &str = "culvert.dev/placed-endpoints";

/// What Workloads are filed under that ask for a waypoint by themselves, beside the services that they belong to: no service is called so.
pub(crate) fn asking_for(waypoint: &str) -> String {
    format!("{waypoint} by itself")
}

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

/// One resource, not yet in a snapshot.
#[derive(Debug)]
pub struct Resource {
    /// Its type.
    pub type_url: &'static str,
    /// Its name.
    pub name: Arc<str>,
    entry: Entry,
    namespace: Option<Arc<str>>,
    scope: Option<Arc<str>>,
    aliases: Vec<String>,
    services: Vec<String>,
    node: String,
}

impl Resource {
    /// What one waypoint is told, and no other: `scope` is its Gateway, `NAMESPACE/NAME`. `along` is what the waypoint must have been
    /// sent anew, too, whenever this is sent anew, by its contents.
    pub fn scoped(type_url: &'static str, scope: &Arc<str>, name: &str, body: Vec<u8>, along: &[u8]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&body);
        context.update(along);
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self {
            type_url,
            name: name.into(),
            entry: entry(hash, body),
            namespace: None,
            scope: Some(Arc::clone(scope)),
            aliases: Vec::new(),
            services: Vec::new(),
            node: String::new(),
        }
    }

    /// The same of a body that has maps, whose entries have no order of their own: `contents` are the same for equal contents.
    pub fn scoped_by(type_url: &'static str, scope: &Arc<str>, name: &str, body: Vec<u8>, contents: &[&[u8]]) -> Self {
        let resource = Self::scoped(type_url, scope, name, Vec::new(), &contents.concat());
        Self {
            entry: Entry {
                body: body.into(),
                ..resource.entry
            },
            ..resource
        }
    }

    /// A Workload or a Service, made of an object in `namespace`.
    pub fn address(name: &str, namespace: &Arc<str>, address: &Address) -> Self {
        let (aliases, services, node) = found_by(address);
        Self {
            type_url: ADDRESS_TYPE,
            name: name.into(),
            entry: entry(content_hash(address), address.encode_to_vec()),
            namespace: Some(Arc::clone(namespace)),
            scope: None,
            aliases,
            services,
            node,
        }
    }

    /// A policy, made of an object in its namespace.
    pub fn authorization(policy: &Authorization) -> Self {
        let body = policy.encode_to_vec();
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, &body).as_ref());
        Self {
            type_url: AUTHORIZATION_TYPE,
            name: format!("{}/{}", policy.namespace, policy.name).into(),
            entry: entry(hash, body),
            namespace: Some(policy.namespace.as_str().into()),
            scope: None,
            aliases: Vec::new(),
            services: Vec::new(),
            node: String::new(),
        }
    }

    /// The mesh as a whole.
    pub fn mesh(mesh: &Mesh) -> Self {
        let body = mesh.encode_to_vec();
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, &body).as_ref());
        Self {
            type_url: MESH_TYPE,
            name: MESH_NAME.into(),
            entry: entry(hash, body),
            namespace: None,
            scope: None,
            aliases: Vec::new(),
            services: Vec::new(),
            node: String::new(),
        }
    }
}

fn entry(hash: [u8; 32], body: Vec<u8>) -> Entry {
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    Entry {
        digest: u64::from_be_bytes(first),
        body: body.into(),
        aliases: Arc::from([]),
    }
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

/// Aliases, services and node of an address.
fn found_by(address: &Address) -> (Vec<String>, Vec<String>, String) {
    match &address.r#type {
        Some(address::Type::Workload(workload)) => {
            let aliases = workload
                .addresses
                .iter()
                .filter_map(|a| alias(&workload.network, a, None));
            let mut services: Vec<String> = workload.services.keys().cloned().collect();
            services.extend(own_waypoint(workload).map(asking_for));
            services.sort_unstable();
            (aliases.collect(), services, workload.node.clone())
        }
        Some(address::Type::Service(service)) => {
            let named = |a: &NetworkAddress| alias(&a.network, &a.address, a.length);
            let has_range = service.addresses.iter().any(|address| address.length.is_some());
            let ranges = has_range.then(|| RANGES_ALIAS.to_owned());
            let aliases = service.addresses.iter().filter_map(named).chain(ranges);
            let host = service.hostname.to_ascii_lowercase();
            let by_host = match host.starts_with("*.") {
                true => WILDCARDS_ALIAS.to_owned(),
                false => format!("{HOST_ALIAS}{host}"),
            };
            (aliases.chain([by_host]).collect(), Vec::new(), String::new())
        }
        None => (Vec::new(), Vec::new(), String::new()),
    }
}

/// The host of the waypoint that a Workload is to be reached through at all its ports.
fn own_waypoint(workload: &Workload) -> Option<&str> {
    let is_of_services = workload.extensions.iter().any(|one| one.name == WAYPOINT_PORTS);
    match workload.waypoint.as_ref()?.destination.as_ref()? {
        Destination::Hostname(name) if !is_of_services => Some(&name.hostname),
        _ => None,
    }
}

/// `network/address`, and the length of a range after it.
fn alias(network: &str, address: &[u8], length: Option<u32>) -> Option<String> {
    let address = to_address(address)?;
    Some(match length {
        None => format!("{network}/{address}"),
        Some(length) => format!("{network}/{address}/{length}"),
    })
}

/// An address from the wire; none if it has neither four nor sixteen bytes.
pub fn to_address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(octets) {
        return Some(Ipv4Addr::from(four).into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into())
}

/// The same for equal contents in every process: a map's entries have no order of their own, so they are taken sorted.
fn content_hash(address: &Address) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    if let Some(address::Type::Workload(workload)) = &address.r#type {
        let mut services: Vec<_> = workload.services.iter().collect();
        services.sort_by_key(|(name, _)| *name);
        for (name, ports) in services {
            context.update(name.as_bytes());
            context.update(&ports.encode_length_delimited_to_vec());
        }
        context.update(
            &Workload {
                services: HashMap::default(),
                ..workload.clone()
            }
            .encode_to_vec(),
        );
    } else {
        context.update(&address.encode_to_vec());
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}
