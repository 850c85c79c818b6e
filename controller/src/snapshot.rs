//! All resources at one moment, as they go over the wire, with the names by which they are found.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use aws_lc_rs::digest;
use culvert_proto::workload::{Address, NetworkAddress, Workload, address};
use culvert_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use culvert_xds::server::{Entry, Resources};
use prost::Message as _;

/// Resources by name, by alias, by service and by node. A clone shares the resources.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    addresses: BTreeMap<String, Entry>,
    /// Never filled before policies are read; served, so that clients know that there are none.
    authorizations: BTreeMap<String, Entry>,
    /// What each resource is found by, to take it out again.
    keys: HashMap<String, Keys>,
    by_alias: HashMap<String, BTreeSet<String>>,
    /// Workloads of a service, by the service's resource name.
    by_service: HashMap<String, BTreeSet<String>>,
    by_node: HashMap<String, BTreeSet<String>>,
}

#[derive(Clone, Debug, Default)]
struct Keys {
    aliases: Arc<[String]>,
    services: Vec<String>,
    node: String,
}

impl Snapshot {
    /// Adds or replaces a resource.
    pub fn set(&mut self, name: &str, address: &Address) {
        self.remove(name);
        let keys = Keys::of(address);
        for alias in keys.aliases.iter() {
            self.by_alias.entry(alias.clone()).or_default().insert(name.to_owned());
        }
        for service in &keys.services {
            self.by_service
                .entry(service.clone())
                .or_default()
                .insert(name.to_owned());
        }
        if !keys.node.is_empty() {
            self.by_node
                .entry(keys.node.clone())
                .or_default()
                .insert(name.to_owned());
        }
        let hash = content_hash(address);
        let version: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        let entry = Entry {
            version: version.into(),
            digest: u64::from_be_bytes(first),
            body: address.encode_to_vec().into(),
            aliases: Arc::clone(&keys.aliases),
        };
        self.keys.insert(name.to_owned(), keys);
        self.addresses.insert(name.to_owned(), entry);
    }

    /// Removes a resource, if it is there.
    pub fn remove(&mut self, name: &str) {
        self.addresses.remove(name);
        let Some(keys) = self.keys.remove(name) else { return };
        for alias in keys.aliases.iter() {
            take(&mut self.by_alias, alias, name);
        }
        for service in &keys.services {
            take(&mut self.by_service, service, name);
        }
        take(&mut self.by_node, &keys.node, name);
    }

    /// By what a client may have asked for the resource `name`, if it is there: its own name and aliases, and for a
    /// workload the names and aliases of its services.
    pub fn keys(&self, name: &str) -> BTreeSet<String> {
        let Some(keys) = self.keys.get(name) else {
            return BTreeSet::new();
        };
        let services = keys.services.iter().filter_map(|service| self.keys.get(service));
        let aliases = services.chain([keys]).flat_map(|keys| keys.aliases.iter());
        let names = keys.services.iter().map(String::as_str).chain([name]);
        aliases.cloned().chain(names.map(str::to_owned)).collect()
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
    fn all<'a>(&'a self, type_url: &str) -> Option<Box<dyn Iterator<Item = (&'a str, &'a Entry)> + 'a>> {
        Some(Box::new(
            self.of_type(type_url)?
                .iter()
                .map(|(name, entry)| (name.as_str(), entry)),
        ))
    }

    fn get(&self, type_url: &str, name: &str) -> Option<&Entry> {
        self.of_type(type_url)?.get(name)
    }

    /// A name or alias brings the resource; a service, by either, its workloads too.
    fn expand(&self, type_url: &str, name: &str) -> Vec<String> {
        let Some(resources) = self.of_type(type_url) else {
            return Vec::new();
        };
        let mut found: BTreeSet<String> = BTreeSet::new();
        if resources.contains_key(name) {
            found.insert(name.to_owned());
        }
        if type_url == ADDRESS_TYPE {
            found.extend(self.by_alias.get(name).into_iter().flatten().cloned());
            let workloads: Vec<_> = found
                .iter()
                .filter_map(|n| self.by_service.get(n))
                .flatten()
                .cloned()
                .collect();
            found.extend(workloads);
        }
        found.into_iter().collect()
    }

    fn initial(&self, type_url: &str, node: &str) -> Vec<String> {
        if type_url != ADDRESS_TYPE {
            return Vec::new();
        }
        self.by_node.get(node).into_iter().flatten().cloned().collect()
    }
}

impl Snapshot {
    fn of_type(&self, type_url: &str) -> Option<&BTreeMap<String, Entry>> {
        match type_url {
            ADDRESS_TYPE => Some(&self.addresses),
            AUTHORIZATION_TYPE => Some(&self.authorizations),
            _ => None,
        }
    }
}

impl Keys {
    fn of(address: &Address) -> Self {
        match &address.r#type {
            Some(address::Type::Workload(workload)) => Self {
                aliases: workload
                    .addresses
                    .iter()
                    .filter_map(|a| alias(&workload.network, a, None))
                    .collect(),
                services: workload.services.keys().cloned().collect(),
                node: workload.node.clone(),
            },
            Some(address::Type::Service(service)) => {
                let named = |a: &NetworkAddress| alias(&a.network, &a.address, a.length);
                Self {
                    aliases: service.addresses.iter().filter_map(named).collect(),
                    ..Self::default()
                }
            }
            None => Self::default(),
        }
    }
}

fn take(index: &mut HashMap<String, BTreeSet<String>>, key: &str, name: &str) {
    if let Some(names) = index.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            index.remove(key);
        }
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
