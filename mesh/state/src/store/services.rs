//! Services in the store, and the indexes that lead to them: by virtual address, by virtual range, by host name.

use std::sync::Arc;

use ipnet::IpNet;

use super::Store;
use crate::{Service, service::single};

impl Store {
    /// Takes a service in, whose name has none.
    pub(super) fn put_service(&mut self, service: Service) {
        let service = Arc::new(service);
        for (network, net) in &service.addresses {
            if *network != self.mesh.network {
                continue;
            }
            if let Some(address) = single(net) {
                self.change.addresses.insert(address);
                let others = self
                    .mesh
                    .virtual_addresses
                    .get(&address)
                    .map_or(&[][..], |services| services);
                self.mesh.virtual_addresses.insert(address, with(others, &service));
            } else {
                self.change.everything = true;
                let ranges = Arc::make_mut(&mut self.mesh.virtual_ranges);
                let key = |net: &IpNet, name: &Arc<str>| (u8::MAX - net.prefix_len(), name.clone());
                let place = ranges.partition_point(|(other, s)| key(other, &s.name) < key(net, &service.name));
                ranges.insert(place, (*net, service.clone()));
            }
        }
        self.add_host(&service);
        self.mesh.services.insert(service.name.clone(), service);
    }

    fn add_host(&mut self, service: &Arc<Service>) {
        let host: Arc<str> = service.hostname.to_ascii_lowercase().into();
        let others = self.mesh.hosts.get(&host).map_or(&[][..], |services| services);
        self.mesh.hosts.insert(Arc::clone(&host), with(others, service));
        self.change.hosts.insert(host);
    }

    fn remove_host(&mut self, service: &Arc<Service>) {
        let host: Arc<str> = service.hostname.to_ascii_lowercase().into();
        let Some(services) = self.mesh.hosts.get(&host) else {
            return;
        };
        match without(services, service) {
            None => self.mesh.hosts.remove(&host),
            Some(rest) => self.mesh.hosts.insert(Arc::clone(&host), rest),
        };
        self.change.hosts.insert(host);
    }

    /// Takes a service out, if it is there.
    pub(super) fn remove_service(&mut self, name: &str) {
        let Some(service) = self.mesh.services.remove(name) else {
            return;
        };
        self.remove_host(&service);
        for (_, net) in &service.addresses {
            let Some(address) = single(net) else {
                self.change.everything = true;
                Arc::make_mut(&mut self.mesh.virtual_ranges).retain(|(_, other)| !Arc::ptr_eq(other, &service));
                continue;
            };
            self.change.addresses.insert(address);
            let Some(services) = self.mesh.virtual_addresses.get(&address) else {
                continue;
            };
            match without(services, &service) {
                None => self.mesh.virtual_addresses.remove(&address),
                Some(rest) => self.mesh.virtual_addresses.insert(address, rest),
            };
        }
    }
}

/// Services with one more, in the order of their names.
fn with(services: &[Arc<Service>], one: &Arc<Service>) -> Arc<[Arc<Service>]> {
    let place = services.partition_point(|other| other.name < one.name);
    let (before, after) = services.split_at(place);
    before.iter().chain([one]).chain(after).cloned().collect()
}

/// Services with one less; none if there is no other.
fn without(services: &[Arc<Service>], one: &Arc<Service>) -> Option<Arc<[Arc<Service>]>> {
    let rest: Arc<[Arc<Service>]> = services
        .iter()
        .filter(|other| !Arc::ptr_eq(other, one))
        .cloned()
        .collect();
    (!rest.is_empty()).then_some(rest)
}
