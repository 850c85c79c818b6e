//! Which service a virtual address belongs to.

use std::{net::IpAddr, sync::Arc};

use crate::{Mesh, Service, pod::Pod};

impl Mesh {
    /// The service with this virtual address: one of the pod's own namespace before the owner of a hostname before the
    /// others, by name.
    pub(crate) fn service_at(&self, pod: &Pod, address: IpAddr) -> Option<&Arc<Service>> {
        let seen = |service: &&Arc<Service>| service.is_seen_in(&pod.namespace);
        let services = self.virtual_addresses.get(&address)?;
        services
            .iter()
            .filter(seen)
            .min_by_key(|service| rank(service, &pod.namespace))
    }

    /// The service with the longest virtual range around an address; of several with the same, as above.
    pub(crate) fn service_around(&self, pod: &Pod, address: IpAddr) -> Option<&Arc<Service>> {
        let mut around = self
            .virtual_ranges
            .iter()
            .filter(|(range, service)| range.contains(&address) && service.is_seen_in(&pod.namespace))
            .peekable();
        let length = around.peek()?.0.prefix_len();
        let longest = around.take_while(|(range, _)| range.prefix_len() == length);
        longest
            .map(|(_, service)| service)
            .min_by_key(|service| rank(service, &pod.namespace))
    }

    /// Whether somebody of the mesh may have the address of whom nothing can be used yet: a range of others leads no connection
    /// past him.
    pub(crate) fn may_be_of_the_mesh(&self, address: IpAddr) -> bool {
        self.is_in_ranges(address) || self.refused_addresses.contains_key(&address)
    }
}

/// By what one of several services with an address or a host name is chosen, the least first.
pub(crate) fn rank(service: &Service, namespace: &str) -> (bool, bool) {
    (*service.namespace != *namespace, !service.canonical)
}
