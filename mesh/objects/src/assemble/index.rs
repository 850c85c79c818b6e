//! Which of the objects that are held concern one another: by their addresses, their service accounts, their Services.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::claims;
use crate::enrolment::service_account;
use crate::few::Few;
use crate::kinds::{Kind, Object, service_of_slice};
use crate::name::ObjectName;

/// An object that is held.
pub(crate) type Reference = (Kind, ObjectName);

/// What of all objects that are held concerns what else.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Who claims an address: mostly one.
    claims: HashMap<IpAddr, Few<Reference>>,
    /// Pods by the service account that they name.
    of_account: HashMap<ObjectName, BTreeSet<ObjectName>>,
    /// Slices by the Service that they name.
    of_service: HashMap<ObjectName, BTreeSet<ObjectName>>,
}

impl Index {
    /// Notes an object, and returns the others that claim one of its addresses.
    pub(super) fn file(&mut self, name: &ObjectName, object: &Object) -> Vec<Reference> {
        let mut rivals = Vec::new();
        for address in claims::addresses(object) {
            let own = (object.kind(), name.clone());
            match self.claims.entry(address) {
                Entry::Vacant(entry) => drop(entry.insert(Few::One(own))),
                Entry::Occupied(mut entry) => {
                    rivals.extend_from_slice(entry.get().as_slice());
                    entry.get_mut().push(own);
                }
            }
        }
        match group(name, object) {
            Some(Group::Account(account)) => add(&mut self.of_account, account, name),
            Some(Group::Service(service)) => add(&mut self.of_service, service, name),
            None => {}
        }
        rivals
    }

    /// Forgets an object, and returns the others that claim one of its addresses.
    pub(super) fn unfile(&mut self, name: &ObjectName, object: &Object) -> Vec<Reference> {
        let mut rivals = Vec::new();
        for address in claims::addresses(object) {
            let Entry::Occupied(mut entry) = self.claims.entry(address) else {
                continue;
            };
            if entry
                .get_mut()
                .retain(|(kind, other)| *kind != object.kind() || other != name)
            {
                rivals.extend_from_slice(entry.get().as_slice());
            } else {
                entry.remove();
            }
        }
        match group(name, object) {
            Some(Group::Account(account)) => take(&mut self.of_account, &account, name),
            Some(Group::Service(service)) => take(&mut self.of_service, &service, name),
            None => {}
        }
        rivals
    }

    /// Who claims an address.
    pub(super) fn claimants(&self, address: IpAddr) -> &[Reference] {
        self.claims.get(&address).map_or(&[], Few::as_slice)
    }

    /// The pods that name a service account.
    pub(super) fn pods_of(&self, account: &ObjectName) -> impl Iterator<Item = &ObjectName> {
        self.of_account.get(account).into_iter().flatten()
    }

    /// The slices that name a Service.
    pub(super) fn slices_of(&self, service: &ObjectName) -> impl Iterator<Item = &ObjectName> {
        self.of_service.get(service).into_iter().flatten()
    }
}

/// What an object is looked up by, beside its addresses.
enum Group {
    Account(ObjectName),
    Service(ObjectName),
}

fn group(name: &ObjectName, object: &Object) -> Option<Group> {
    match object {
        Object::Pod(pod) => {
            let account = ObjectName::new(Arc::clone(&name.namespace), service_account(pod));
            Some(Group::Account(account))
        }
        Object::EndpointSlice(slice) => service_of_slice(name, slice).map(Group::Service),
        _ => None,
    }
}

fn add(index: &mut HashMap<ObjectName, BTreeSet<ObjectName>>, key: ObjectName, name: &ObjectName) {
    index.entry(key).or_default().insert(name.clone());
}

fn take(index: &mut HashMap<ObjectName, BTreeSet<ObjectName>>, key: &ObjectName, name: &ObjectName) {
    if let Some(names) = index.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            index.remove(key);
        }
    }
}
