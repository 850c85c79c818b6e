//! One resource as it is made, and by what it is found: its name, and for a Workload or a Service also addresses, host names, services and node.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use aws_lc_rs::digest::{self, Digest};
use culvert_proto::config::Mesh;
use culvert_proto::security::Authorization;
use culvert_proto::workload::gateway_address::Destination;
use culvert_proto::workload::{Address, NetworkAddress, Workload, address};
use culvert_proto::{
    ADDRESS_TYPE, AUTHORIZATION_TYPE, HOST_ALIAS, MESH_NAME, MESH_TYPE, RANGES_ALIAS, WAYPOINT_PORTS, WILDCARDS_ALIAS,
};
use culvert_xds::server::Entry;
use prost::Message as _;

/// What Workloads are filed under that ask for a waypoint by themselves, beside the services that they belong to: no service is called so.
pub(crate) fn asking_for(waypoint: &str) -> String {
    format!("{waypoint} by itself")
}

/// One resource, not yet in a snapshot.
#[derive(Debug)]
pub struct Resource {
    /// Its type.
    pub type_url: &'static str,
    /// Its name.
    pub name: Arc<str>,
    pub(super) entry: Entry,
    pub(super) namespace: Option<Arc<str>>,
    pub(super) scope: Option<Arc<str>>,
    pub(super) aliases: Vec<String>,
    pub(super) services: Vec<String>,
    pub(super) node: String,
}

impl Resource {
    /// What one waypoint is told, and no other: `scope` is its Gateway, `NAMESPACE/NAME`. `along` is what the waypoint must have been
    /// sent anew, too, whenever this is sent anew, by its contents.
    pub fn scoped(type_url: &'static str, scope: &Arc<str>, name: &str, body: Vec<u8>, along: &[u8]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&body);
        context.update(along);
        Self {
            scope: Some(Arc::clone(scope)),
            ..Self::plain(type_url, name.into(), &context.finish(), body)
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
            namespace: Some(Arc::clone(namespace)),
            aliases,
            services,
            node,
            ..Self::plain(
                ADDRESS_TYPE,
                name.into(),
                &content_hash(address),
                address.encode_to_vec(),
            )
        }
    }

    /// A policy, made of an object in its namespace.
    pub fn authorization(policy: &Authorization) -> Self {
        let body = policy.encode_to_vec();
        let name = format!("{}/{}", policy.namespace, policy.name);
        Self {
            namespace: Some(policy.namespace.as_str().into()),
            ..Self::plain(AUTHORIZATION_TYPE, name.into(), &sha256(&body), body)
        }
    }

    /// The mesh as a whole.
    pub fn mesh(mesh: &Mesh) -> Self {
        let body = mesh.encode_to_vec();
        Self::plain(MESH_TYPE, MESH_NAME.into(), &sha256(&body), body)
    }

    /// A resource that is found by its name alone, and is another when `hash` is.
    fn plain(type_url: &'static str, name: Arc<str>, hash: &Digest, body: Vec<u8>) -> Self {
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_ref()[..8]);
        Self {
            type_url,
            name,
            entry: Entry {
                digest: u64::from_be_bytes(first),
                body: body.into(),
                aliases: Arc::from([]),
            },
            namespace: None,
            scope: None,
            aliases: Vec::new(),
            services: Vec::new(),
            node: String::new(),
        }
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    digest::digest(&digest::SHA256, bytes)
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
fn content_hash(address: &Address) -> Digest {
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
    context.finish()
}
