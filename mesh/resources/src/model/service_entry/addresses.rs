//! Which virtual addresses of a ServiceEntry are its own.
//!
//! An address that a pod or a Service has stays theirs: an entry that took it would take their connections. Of ranges that
//! overlap the longest prefix leads, so that the wider one is told nothing; of equal ones in one namespace the older entry's.

use std::sync::Arc;

use culvert_objects::{Key, ObjectName, ServiceEntry};
use ipnet::IpNet;

use super::super::owner;
use super::super::reader::Reader;
use super::notes::Notes;

/// The addresses that are its own; of the others it is noted why.
pub(super) fn own(reader: &Reader<'_>, name: &ObjectName, entry: &ServiceEntry, notes: &mut Notes<'_>) -> Vec<IpNet> {
    let mut own = Vec::new();
    for (field, range) in &entry.addresses {
        if let Some(owner) = owner(reader, *range) {
            notes.add(
                field,
                format!("{} is that of {owner}: it is left out here", range.addr()),
            );
            continue;
        }
        match overlapping(reader, name, entry, *range) {
            Some((other, other_range)) if other_range == *range && other.namespace == name.namespace => {
                notes.add(
                    field,
                    format!("ServiceEntry {other} has {range} and is older: it is left out here"),
                );
            }
            Some((other, other_range)) if other_range == *range => {
                let namespace = &name.namespace;
                notes.add(
                    field,
                    format!("ServiceEntry {other} has {range}, too: pods of {namespace} come here, and others by name"),
                );
                own.push(*range);
            }
            Some((other, other_range)) => {
                notes.add(
                    field,
                    format!("{range} lies in {other_range} of ServiceEntry {other}: connections to it come here"),
                );
                own.push(*range);
            }
            None => own.push(*range),
        }
    }
    own
}

/// The pod or Service that has a single address.
fn owner(reader: &Reader<'_>, range: IpNet) -> Option<String> {
    if range.prefix_len() < range.max_prefix_len() {
        return None;
    }
    let pod = owner::pod(reader, range.addr()).map(|pod| format!("Pod {pod}"));
    pod.or_else(|| owner::service(reader, range.addr()).map(|service| format!("Service {service}")))
}

/// The narrowest range that another entry has around this one, or the same: an older entry of this namespace, or any of another.
fn overlapping<'a>(
    reader: &Reader<'a>,
    name: &ObjectName,
    entry: &ServiceEntry,
    range: IpNet,
) -> Option<(&'a ObjectName, IpNet)> {
    let age = |entry: &ServiceEntry| entry.created.as_ref().map(|created| created.0);
    let around = |range: IpNet| {
        let others = reader.find::<ServiceEntry>(Key::virtual_range(range));
        others
            .filter(|(other, _)| *other != name)
            .filter(move |(_, other)| !other.export.is_nobody() && other.addresses.iter().any(|(_, own)| *own == range))
    };
    // One of this namespace before others, so that what is left out does not depend on these; then by age and name.
    let rank = |(other_name, other): &(&ObjectName, &Arc<ServiceEntry>)| {
        (
            other_name.namespace != name.namespace,
            age(other),
            (*other_name).clone(),
        )
    };
    let first = |range: IpNet| Some((around(range).min_by_key(rank)?.0, range));
    let equal = around(range)
        .filter(|(other_name, other)| {
            other_name.namespace != name.namespace || (age(other), *other_name) < (age(entry), name)
        })
        .min_by_key(rank);
    let mut wider = std::iter::successors(range.supernet(), IpNet::supernet);
    equal.map(|(name, _)| (name, range)).or_else(|| wider.find_map(first))
}
