//! A ServiceEntry becomes a Service for each of its hosts, and a Workload for each endpoint that it lists.
//!
//! Pods and WorkloadEntries that it selects, and those that have the address of an endpoint that it lists, are endpoints by
//! their own Workloads: an address has one owner.
//!
//! | module | what |
//! |---|---|
//! | `hosts` | which hosts are its to serve |
//! | `addresses` | which virtual addresses |
//! | `endpoints` | the Workloads of what it lists |
//! | `members` | whose Workloads are its endpoints beside these |
//! | `notes` | what is wrong with it beside other objects |

use culvert_identity::SpiffeId;
use culvert_objects::{Export, ObjectName, Resolution, ServiceEntry};
use culvert_proto::workload::load_balancing::{HealthPolicy, Mode};
use culvert_proto::workload::{Extension, LoadBalancing, NetworkAddress, Service, service::Visibility};
use culvert_proto::{EXPORT_TO, extension_of_text};
use ipnet::IpNet;

use super::reader::Reader;
use super::unit::Derived;
use super::{ports, resource, restriction, service, waypoint, wire};
use crate::snapshot::Resource;

mod addresses;
mod endpoints;
mod hosts;
mod members;
mod notes;

pub(super) use members::{listing, selecting};
use notes::Notes;

/// What a ServiceEntry becomes.
pub(super) fn derive(reader: &Reader<'_>, name: &ObjectName, entry: &ServiceEntry) -> Derived {
    if entry.export.is_nobody() {
        return Derived::default();
    }
    let mut notes = Notes::new(name);
    let hosts = hosts::served(reader, name, entry, &mut notes);
    if hosts.is_empty() {
        return notes.into_derived(Vec::new());
    }
    for (field, why) in waypoint::faults(reader, name, entry) {
        notes.add(&field, why);
    }
    let is_denied = is_denied(reader, name, &mut notes);
    let addresses = addresses::own(reader, name, entry, &mut notes);
    let common = Service {
        addresses: addresses.into_iter().map(network_address).collect(),
        subject_alt_names: identities(entry, &mut notes),
        load_balancing: load_balancing(reader, name, entry, is_denied),
        ..common(reader, name, entry)
    };
    let mut resources: Vec<Resource> = hosts
        .iter()
        .map(|host| {
            let mut service = Service {
                hostname: host.name.to_owned(),
                canonical: host.is_canonical,
                ..common.clone()
            };
            let allocated = reader.allocated(name, host.name).map(IpNet::from);
            service.addresses.extend(allocated.map(network_address));
            resource::of_service(&name.namespace, service)
        })
        .collect();
    if !is_denied {
        let workloads = endpoints::workloads(reader, name, entry, &hosts, &mut notes);
        let workloads = workloads.into_iter();
        resources.extend(workloads.map(|workload| resource::of_workload(&name.namespace, workload)));
    }
    notes.into_derived(resources)
}

/// Whether somebody would have to be asked who is not there: then it has no endpoints.
fn is_denied(reader: &Reader<'_>, name: &ObjectName, notes: &mut Notes<'_>) -> bool {
    let by = restriction::of_service_entry(reader, name);
    if let Some((kind, policy)) = &by {
        let message = format!("{kind} {policy} is for a waypoint, which is not there: nobody reaches its hosts");
        notes.add("", message);
    }
    by.is_some()
}

/// What the entry itself says of all its hosts.
fn common(reader: &Reader<'_>, name: &ObjectName, entry: &ServiceEntry) -> Service {
    let (visibility, extension) = visibility(name, &entry.export);
    let waypoints = waypoint::of_service(reader, name, entry);
    Service {
        name: name.name.to_string(),
        namespace: name.namespace.to_string(),
        ports: entry.ports.iter().map(ports::of_entry).collect(),
        waypoint: waypoints.waypoint,
        weighted_waypoints: waypoints.weighted,
        visibility: visibility.into(),
        extensions: extension.into_iter().collect(),
        ..Service::default()
    }
}

/// A range of one address is that address.
fn network_address(range: IpNet) -> NetworkAddress {
    let is_range = range.prefix_len() < range.max_prefix_len();
    NetworkAddress {
        address: wire::octets(range.addr()),
        length: is_range.then(|| range.prefix_len().into()),
        ..NetworkAddress::default()
    }
}

fn load_balancing(
    reader: &Reader<'_>,
    name: &ObjectName,
    entry: &ServiceEntry,
    is_denied: bool,
) -> Option<LoadBalancing> {
    if entry.resolution == Resolution::None && !is_denied {
        return Some(LoadBalancing {
            mode: Mode::Passthrough.into(),
            health_policy: HealthPolicy::AllowAll.into(),
            ..LoadBalancing::default()
        });
    }
    service::distributed(reader, name, |key| entry.annotations.get(key))
}

/// Istio's word for one's own namespace, and Culvert's for several.
fn visibility(name: &ObjectName, export: &Export) -> (Visibility, Option<Extension>) {
    match export {
        Export::All => (Visibility::Public, None),
        Export::Only(namespaces) if namespaces.iter().all(|one| *one == name.namespace) => {
            (Visibility::Namespace, None)
        }
        Export::Only(namespaces) => (
            Visibility::Public,
            Some(extension_of_text(EXPORT_TO, &namespaces.join(","))),
        ),
    }
}

/// The identities that may answer for it. Names of other schemes are for clients that speak TLS themselves.
fn identities(entry: &ServiceEntry, notes: &mut Notes<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (field, text) in &entry.subject_alt_names {
        if !text.starts_with("spiffe://") {
            notes.add(
                field,
                format!("{text} is no identity of a mesh: it is for clients that speak TLS themselves"),
            );
        } else if let Err(error) = SpiffeId::parse(text) {
            notes.add(field, format!("{error}: it is left out"));
            continue;
        }
        found.push(text.to_string());
    }
    found
}
