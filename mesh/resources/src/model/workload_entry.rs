//! A WorkloadEntry becomes a Workload, which policies bind as they bind pods.
//!
//! An address has one owner. Where that is a pod, a Service or an older WorkloadEntry, this one is left out, and what selects
//! it has an endpoint less.

use std::collections::BTreeMap;

use culvert_objects::{EntryEndpoint, Finding, Kind, ObjectName, WorkloadEntry};
use culvert_proto::workload::{PortList, Workload};

use super::outside::{self, Outside};
use super::reader::Reader;
use super::{owner, service, service_entry, wire};

/// The Workload; or why there is none, if the object itself does not tell.
pub(super) fn workload(
    reader: &Reader<'_>,
    name: &ObjectName,
    entry: &WorkloadEntry,
) -> Result<Option<Workload>, Box<Finding>> {
    let Some(endpoint) = &entry.endpoint else {
        return Ok(None);
    };
    if let Some(other) = other_owner(reader, name, endpoint) {
        let message = format!("the address is that of {other}: this object is left out");
        let finding = Finding::of_object(Kind::WorkloadEntry, name, "spec.address", message);
        return Err(Box::new(finding));
    }
    Ok(Some(outside::workload(
        reader,
        Outside {
            object: name,
            uid: wire::workload_entry_uid(reader.settings(), name),
            labels: &entry.labels,
            annotations: &entry.annotations,
            endpoint,
            services: services(reader, name, entry, endpoint),
        },
    )))
}

/// Who else has its address.
fn other_owner(reader: &Reader<'_>, name: &ObjectName, endpoint: &EntryEndpoint) -> Option<String> {
    let address = endpoint.address()?;
    let pod = owner::pod(reader, address).map(|pod| format!("Pod {pod}"));
    let service = || owner::service(reader, address).map(|service| format!("Service {service}"));
    let entry = || {
        let (oldest, _) = owner::workload_entry(reader, address)?;
        (oldest != name).then(|| format!("WorkloadEntry {oldest}"))
    };
    pod.or_else(service).or_else(entry)
}

/// The services that it belongs to: those that select it, and ServiceEntries that list its address.
fn services(
    reader: &Reader<'_>,
    name: &ObjectName,
    entry: &WorkloadEntry,
    endpoint: &EntryEndpoint,
) -> BTreeMap<String, PortList> {
    let mut services = service::of_workload_entry(reader, name, entry, endpoint);
    let selecting = service_entry::selecting(reader, &name.namespace, &entry.labels, |port| endpoint.port(port));
    let listing = endpoint
        .address()
        .map(|address| service_entry::listing(reader, &[address]))
        .unwrap_or_default();
    for (service, ports) in selecting.into_iter().chain(listing) {
        services.entry(service).or_insert(ports);
    }
    services
}
