//! Who has an address: it belongs to one pod, WorkloadEntry or Service, and those that merely name it lead to its owner.

use std::net::IpAddr;
use std::sync::Arc;

use culvert_objects::{EntryEndpoint, Key, ObjectName, Pod, Service, WorkloadEntry, virtual_addresses};
use ipnet::IpNet;

use super::reader::Reader;

/// The pod that has an address.
pub(super) fn pod<'a>(reader: &Reader<'a>, address: IpAddr) -> Option<&'a ObjectName> {
    let mut found = reader.find::<Pod>(Key::pod_of(address));
    found.find_map(|(name, pod)| pod.own_addresses().contains(&address).then_some(name))
}

/// The WorkloadEntry that has an address: the oldest of several, then the first by name.
pub(super) fn workload_entry<'a>(
    reader: &Reader<'a>,
    address: IpAddr,
) -> Option<(&'a ObjectName, &'a Arc<WorkloadEntry>)> {
    let found = reader.find::<WorkloadEntry>(Key::endpoint_at(address));
    let at = |entry: &WorkloadEntry| entry.endpoint.as_ref().and_then(EntryEndpoint::address);
    found
        .filter(|(_, entry)| at(entry) == Some(address))
        .min_by_key(|(name, entry)| (entry.created.as_ref().map(|created| created.0), *name))
}

/// The Service that has a virtual address.
pub(super) fn service<'a>(reader: &Reader<'a>, address: IpAddr) -> Option<&'a ObjectName> {
    let mut found = reader.find::<Service>(Key::virtual_range(IpNet::from(address)));
    found.find_map(|(name, service)| virtual_addresses(service).contains(&address).then_some(name))
}
