//! Which ServiceEntries a pod or a WorkloadEntry is an endpoint of, and its ports there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use culvert_objects::{Key, Labels, ObjectName, ServiceEntry};
use culvert_proto::workload::PortList;

use super::super::reader::Reader;
use super::super::{ports, restriction, wire};
use super::hosts;
use super::notes::Notes;

/// The hosts of the entries that select a workload of `namespace` with these labels. `own` is where it serves a port of a
/// name.
pub(in super::super) fn selecting(
    reader: &Reader<'_>,
    namespace: &Arc<str>,
    labels: &Labels,
    own: impl Fn(&str) -> Option<u16>,
) -> BTreeMap<String, PortList> {
    let entries = labels.iter().flat_map(|(label, value)| {
        let key = Key::selector(namespace, label, value);
        reader.find::<ServiceEntry>(key)
    });
    let entries = entries.filter(|(name, entry)| name.namespace == *namespace && entry.selects(labels));
    let found = entries.flat_map(|(name, entry)| {
        let ports = ports::at_endpoint(&entry.ports, &own);
        served(reader, name, entry)
            .into_iter()
            .map(move |host| (host, ports.clone()))
    });
    found.collect()
}

/// The hosts of the entries that list one of these addresses, whose owner is asked for.
pub(in super::super) fn listing(reader: &Reader<'_>, addresses: &[IpAddr]) -> BTreeMap<String, PortList> {
    let mut found = BTreeMap::new();
    for address in addresses {
        for (name, entry) in reader.find::<ServiceEntry>(Key::endpoint_at(*address)) {
            let listed = entry
                .endpoints
                .iter()
                .find(|endpoint| endpoint.address() == Some(*address));
            let Some(endpoint) = listed else { continue };
            let ports = ports::at_endpoint(&entry.ports, |port| endpoint.port(port));
            found.extend(
                served(reader, name, entry)
                    .into_iter()
                    .map(|host| (host, ports.clone())),
            );
        }
    }
    found
}

/// The resource names of the hosts that an entry serves by endpoints.
fn served(reader: &Reader<'_>, name: &ObjectName, entry: &ServiceEntry) -> Vec<String> {
    let has_endpoints = entry.resolution.has_endpoints();
    if !has_endpoints || entry.export.is_nobody() || restriction::of_service_entry(reader, name).is_some() {
        return Vec::new();
    }
    // What is noted is the entry's own to say.
    let hosts = hosts::served(reader, name, entry, &mut Notes::new(name));
    hosts
        .iter()
        .map(|host| wire::host_name(&name.namespace, host.name))
        .collect()
}
