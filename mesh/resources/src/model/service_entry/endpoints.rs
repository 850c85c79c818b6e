//! The Workloads of the endpoints that a ServiceEntry lists.

use culvert_objects::{EntryEndpoint, EntryHost, ObjectName, ServiceEntry};
use culvert_proto::workload::{PortList, Workload};

use super::super::outside::{self, Outside};
use super::super::reader::Reader;
use super::super::{owner, ports, wire};
use super::hosts::Host;
use super::notes::Notes;

/// A Workload for each endpoint whose address nobody has. Where names are resolved and none is listed, the hosts themselves
/// are the endpoints.
pub(super) fn workloads(
    reader: &Reader<'_>,
    name: &ObjectName,
    entry: &ServiceEntry,
    hosts: &[Host<'_>],
    notes: &mut Notes<'_>,
) -> Vec<Workload> {
    if entry.endpoints.is_empty() && entry.resolution.is_dns() && !entry.has_selector() {
        let named = hosts.iter().filter(|host| !host.is_wildcard());
        return named
            .map(|host| {
                let endpoint = EntryEndpoint::of_name(host.name);
                workload(reader, name, entry, &endpoint, std::slice::from_ref(host))
            })
            .collect();
    }
    if !entry.resolution.has_endpoints() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for endpoint in &entry.endpoints {
        let address = endpoint.address();
        if let Some(service) = address.and_then(|address| owner::service(reader, address)) {
            let message = format!("the address is that of Service {service}: nothing leads there from here");
            notes.add(&endpoint.field("address"), message);
            continue;
        }
        let owned = |address| owner::pod(reader, address).or_else(|| Some(owner::workload_entry(reader, address)?.0));
        // Its own Workload is the endpoint.
        if address.and_then(owned).is_some() {
            continue;
        }
        found.push(workload(reader, name, entry, endpoint, hosts));
    }
    found
}

fn workload(
    reader: &Reader<'_>,
    name: &ObjectName,
    entry: &ServiceEntry,
    endpoint: &EntryEndpoint,
    hosts: &[Host<'_>],
) -> Workload {
    let host = match &endpoint.host {
        EntryHost::Address(address) => address.to_string(),
        EntryHost::Name(name) => name.to_string(),
    };
    let ports: PortList = ports::at_endpoint(&entry.ports, |port| endpoint.port(port));
    let services = hosts
        .iter()
        .map(|host| (wire::host_name(&name.namespace, host.name), ports.clone()));
    outside::workload(
        reader,
        Outside {
            object: name,
            uid: wire::service_entry_uid(reader.settings(), name, &host),
            labels: &entry.labels,
            annotations: &entry.annotations,
            endpoint,
            services: services.collect(),
        },
    )
}
