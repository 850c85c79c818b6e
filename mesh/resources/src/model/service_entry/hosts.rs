//! Which hosts of a ServiceEntry are its to serve.
//!
//! A Kubernetes Service has its name before any entry, and an older entry before a newer one. In its own namespace a host has
//! one owner, and is left out of all other entries. Entries of other namespaces serve it too, for themselves: the name itself is
//! the owner's ("canonical").

use culvert_objects::{Key, ObjectName, Service, ServiceEntry, is_external};

use super::super::reader::Reader;
use super::notes::Notes;

/// A host that an entry serves.
pub(super) struct Host<'a> {
    pub(super) name: &'a str,
    /// Whether the name leads here from everywhere.
    pub(super) is_canonical: bool,
}

impl Host<'_> {
    /// Whether it stands for names below it.
    pub(super) fn is_wildcard(&self) -> bool {
        self.name.starts_with("*.")
    }
}

/// Who has a host.
enum Standing {
    Owned,
    /// By whom.
    OwnedElsewhere(String),
    OwnedHere(String),
}

/// The hosts that the entry serves; of the others it is noted why.
pub(super) fn served<'a>(
    reader: &Reader<'_>,
    name: &ObjectName,
    entry: &'a ServiceEntry,
    notes: &mut Notes<'_>,
) -> Vec<Host<'a>> {
    let mut hosts = Vec::new();
    for (field, host) in &entry.hosts {
        let is_canonical = match standing(reader, name, entry, host) {
            Standing::Owned => true,
            Standing::OwnedElsewhere(owner) => {
                let namespace = &name.namespace;
                notes.add(
                    field,
                    format!(
                        "{owner} has {host}: this entry serves it for the pods of {namespace}, at its own addresses"
                    ),
                );
                false
            }
            Standing::OwnedHere(owner) => {
                notes.add(
                    field,
                    format!("{owner} has {host} in this namespace: it is left out here"),
                );
                continue;
            }
        };
        hosts.push(Host {
            name: host,
            is_canonical,
        });
    }
    hosts
}

fn standing(reader: &Reader<'_>, name: &ObjectName, entry: &ServiceEntry, host: &str) -> Standing {
    let service = of_kubernetes(reader, host);
    let age = |entry: &ServiceEntry| entry.created.as_ref().map(|created| created.0);
    let own = (age(entry), name);
    let others = reader.find::<ServiceEntry>(Key::host(host));
    let older: Vec<&ObjectName> = others
        .filter(|(_, other)| !other.export.is_nobody() && other.hosts.iter().any(|(_, known)| **known == *host))
        .filter(|(other_name, other)| (age(other), *other_name) < own)
        .map(|(name, _)| name)
        .collect();
    let services = service.iter().map(|service| ("Service", service));
    let entries = older.into_iter().map(|entry| ("ServiceEntry", entry));
    let owners: Vec<(&str, &ObjectName)> = services.chain(entries).collect();
    let here = owners.iter().find(|(_, owner)| owner.namespace == name.namespace);
    match (here, owners.first()) {
        (Some((kind, owner)), _) => Standing::OwnedHere(format!("{kind} {owner}")),
        (None, Some((kind, owner))) => Standing::OwnedElsewhere(format!("{kind} {owner}")),
        (None, None) => Standing::Owned,
    }
}

/// The Service whose name the host is.
fn of_kubernetes(reader: &Reader<'_>, host: &str) -> Option<ObjectName> {
    let domain = format!(".svc.{}", reader.settings().cluster_domain);
    let (service, namespace) = host.strip_suffix(&domain)?.split_once('.')?;
    let name = ObjectName::new(namespace, service);
    let found = reader.get::<Service>(&name)?;
    found
        .spec
        .as_ref()
        .is_some_and(|spec| !is_external(spec))
        .then_some(name)
}
