//! What routes may be for: a Service of Kubernetes, or a ServiceEntry, whose hosts are Services of the first round.

use culvert_objects::{Key, ObjectName, ServiceEntry};
use culvert_proto::workload::Service;

use super::super::reader::Reader;
use super::super::wire;
use super::ports;
use crate::routing::model::Parent;

/// The group of ServiceEntries.
const ISTIO: &str = "networking.istio.io";

/// The object that a Service of the first round was made of, as routes mean it.
pub(super) struct Frontend {
    sort: Sort,
    pub(super) object: ObjectName,
    /// Its ports with their names.
    ports: Vec<(u16, Option<String>)>,
}

/// Which kind of object routes are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Service,
    ServiceEntry,
}

impl Sort {
    /// That of a group and a kind; none where routes are not for such.
    pub(super) fn of(group: &str, kind: &str) -> Option<Self> {
        match (group, kind) {
            ("", "Service") => Some(Self::Service),
            (ISTIO, "ServiceEntry") => Some(Self::ServiceEntry),
            _ => None,
        }
    }

    /// The kind.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::ServiceEntry => "ServiceEntry",
        }
    }
}

impl Frontend {
    /// What routes mean by a Service of the first round; none where the object is none that they may be for.
    pub(super) fn of(reader: &Reader<'_>, service: &Service) -> Option<Self> {
        if let Some((object, known)) = ports::of_object(reader, service) {
            let ports = known.into_iter();
            let ports = ports.filter_map(|port| Some((u16::try_from(port.port).ok()?, port.name)));
            return Some(Self {
                sort: Sort::Service,
                object,
                ports: ports.collect(),
            });
        }
        let object = ObjectName::new(service.namespace.as_str(), service.name.as_str());
        let entry = reader.get::<ServiceEntry>(&object)?;
        has_host(entry, &service.hostname).then(|| Self {
            sort: Sort::ServiceEntry,
            ports: entry
                .ports
                .iter()
                .map(|port| (port.number, Some(port.name.to_string())))
                .collect(),
            object,
        })
    }

    /// Which kind of object it is.
    pub(super) fn sort(&self) -> Sort {
        self.sort
    }

    /// The name of one of its ports.
    pub(super) fn name_of(&self, port: u16) -> Option<&str> {
        let found = self.ports.iter().find(|(number, _)| *number == port);
        found.and_then(|(_, name)| name.as_deref())
    }

    /// Under which routes with it as a parent are filed.
    pub(super) fn key(&self) -> Key {
        Key::parent(self.sort.kind(), &self.object)
    }

    /// Whether a parent of `route` is a port of it.
    pub(super) fn is_meant(&self, parent: &Parent, route: &ObjectName, port: u16) -> bool {
        let namespace = parent.namespace.as_deref().unwrap_or(&route.namespace);
        let is_named = |section: &String| {
            let mut ports = self.ports.iter();
            ports.any(|(number, name)| *number == port && name.as_ref() == Some(section))
        };
        Sort::of(&parent.group, &parent.kind) == Some(self.sort)
            && *namespace == *self.object.namespace
            && *parent.name == *self.object.name
            && parent.port.is_none_or(|asked| asked == port)
            && parent.section.as_ref().is_none_or(is_named)
    }
}

/// The Services of the first round that were made of an object that routes may be for, by resource name.
pub(super) fn services(reader: &Reader<'_>, sort: Sort, object: &ObjectName) -> Vec<(String, Service)> {
    let names = match sort {
        Sort::Service => vec![wire::service_name(reader.settings(), object)],
        Sort::ServiceEntry => {
            let entry = reader.get::<ServiceEntry>(object);
            let hosts = entry.into_iter().flat_map(|entry| &entry.hosts);
            hosts
                .map(|(_, host)| wire::host_name(&object.namespace, host))
                .collect()
        }
    };
    let found = names.into_iter().filter_map(|name| {
        let service = reader.derived_service(&name)?;
        Some((name, service))
    });
    // A host of an entry may be a Service's, or another entry's.
    found
        .filter(|(_, service)| sort == Sort::Service || *service.name == *object.name)
        .collect()
}

fn has_host(entry: &ServiceEntry, host: &str) -> bool {
    entry.hosts.iter().any(|(_, known)| **known == *host)
}
