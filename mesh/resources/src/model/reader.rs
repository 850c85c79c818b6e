//! The objects, as what is derived reads them.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use culvert_objects::{Held, Key, Kind, Object, ObjectName, Objects};
use culvert_proto::workload::{Service as ServiceMessage, Workload, address};

use super::allocation::Allocations;
use super::index::Index;
use super::routed::behind::Behind;
use super::settings::Settings;
use crate::keys::{Fetched, Known, Source};
use crate::snapshot::Snapshot;

/// The objects, as a unit reads them. Whatever it reads is noted, so that the unit is derived again when the answer may be
/// another.
#[derive(Debug)]
pub struct Reader<'a> {
    settings: &'a Settings,
    objects: &'a Objects,
    index: &'a Index,
    allocations: &'a Allocations,
    snapshot: &'a Snapshot,
    behind: &'a Behind,
    fetched: &'a Fetched,
    read: RefCell<Vec<Key>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        settings: &'a Settings,
        objects: &'a Objects,
        index: &'a Index,
        allocations: &'a Allocations,
        snapshot: &'a Snapshot,
        behind: &'a Behind,
        fetched: &'a Fetched,
    ) -> Self {
        Self {
            settings,
            objects,
            index,
            allocations,
            snapshot,
            behind,
            fetched,
            read: RefCell::default(),
        }
    }

    /// What holds for the whole mesh.
    pub(super) fn settings(&self) -> &'a Settings {
        self.settings
    }

    /// The object that the unit is named after: a change of it concerns the unit in any case.
    pub(super) fn own<T: Held>(&self, name: &ObjectName) -> Option<&'a Arc<T>> {
        T::map(self.objects).get(name)
    }

    /// The addresses that were chosen for a host of the entry that the unit is named after: a change of them concerns the unit in
    /// any case.
    pub(super) fn allocated(&self, name: &ObjectName, host: &str) -> impl Iterator<Item = IpAddr> {
        let of_entry = self.allocations.of(name);
        of_entry.filter_map(move |(known, address)| (known == host).then_some(address))
    }

    /// The object of a name.
    pub(super) fn get<T: Held>(&self, name: &ObjectName) -> Option<&'a Arc<T>> {
        self.note(Key::named(<T as Held>::KIND.name(), name));
        T::map(self.objects).get(name)
    }

    /// The objects under a key, and perhaps others: see [`Key`].
    pub(super) fn find<T: Held>(&self, key: Key) -> impl Iterator<Item = (&'a ObjectName, &'a Arc<T>)> {
        self.note(key);
        let filed = self
            .index
            .find(key)
            .iter()
            .filter(|(kind, _)| *kind == <T as Held>::KIND);
        filed.filter_map(|(_, name)| T::map(self.objects).get_key_value(name))
    }

    /// The objects of a namespace that would restrict somebody and are not enforced; what each binds says
    /// [`Object::binding`].
    pub(super) fn restricting(&self, namespace: &str) -> impl Iterator<Item = (Kind, &'a ObjectName, Object)> {
        let key = Key::restricting(namespace);
        self.note(key);
        let filed = self.index.find(key).iter();
        let objects = filed.filter_map(|(kind, name)| Some((*kind, name, self.objects.get(*kind, name)?)));
        objects.filter(move |(_, name, object)| *name.namespace == *namespace && object.binding().is_some())
    }

    /// The object of a kind and a name, which the unit is named after.
    pub(super) fn own_of(&self, kind: Kind, name: &ObjectName) -> Option<Object> {
        self.objects.get(kind, name)
    }

    /// All objects of a kind.
    pub(super) fn all<T: Held>(&self) -> impl Iterator<Item = (&'a ObjectName, &'a Arc<T>)> {
        self.note(Key::all(<T as Held>::KIND.name()));
        T::map(self.objects).iter()
    }

    /// The Service of the first round that the unit is named after: a change of it concerns the unit in any case.
    pub(super) fn own_service(&self, name: &str) -> Option<ServiceMessage> {
        match self.snapshot.address(name)?.r#type? {
            address::Type::Service(service) => Some(service),
            address::Type::Workload(_) => None,
        }
    }

    /// A Service of the first round, by its resource's name. Only units of the second round may ask.
    pub(super) fn derived_service(&self, name: &str) -> Option<ServiceMessage> {
        self.note(Key::derived(name));
        self.own_service(name)
    }

    /// The Workloads of a Service of the first round, by its resource's name. Only units of the second round may ask.
    pub(super) fn workloads_of(&self, service: &str) -> Vec<Workload> {
        self.note(Key::workloads_of(service));
        let names = self.snapshot.workloads_of(service);
        let workload = |name: &Arc<str>| match self.snapshot.address(name)?.r#type? {
            address::Type::Workload(workload) => Some(workload),
            address::Type::Service(_) => None,
        };
        names.filter_map(workload).collect()
    }

    /// The Services of the first round that are behind a waypoint, by the waypoint's own host. Only units of the second round may
    /// ask. A change of one of them concerns the unit, too.
    pub(super) fn behind(&self, host: &str) -> Vec<Arc<str>> {
        self.note(Key::behind(host));
        self.behind.of(host).cloned().collect()
    }

    /// What is known of the keys of a source.
    pub(super) fn fetched(&self, source: &Source) -> Option<Known> {
        self.note(source.key());
        self.fetched.get(source).cloned()
    }

    /// Notes that the unit depends on a key beyond the objects.
    pub(super) fn note(&self, key: Key) {
        self.read.borrow_mut().push(key);
    }

    /// All that was read.
    pub(super) fn into_keys(self) -> Vec<Key> {
        self.read.into_inner()
    }
}
