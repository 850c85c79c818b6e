//! What the kernel programs know of connections that may go past the proxy.

use std::collections::{HashMap, hash_map::Entry};

use culvert_abi::{Endpoint, SameNodePair, SameNodePeer};

/// Pairs of pods, and addresses of services that lead to such pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SameNodeEntries {
    /// Who may open connections to where, and on what that depends.
    pub pairs: HashMap<SameNodePair, SameNodePeer>,
    /// By client and address of a service: the destination of one of the client's pairs. None where two are named, as while one takes the
    /// place of the other: then the proxy decides.
    services: HashMap<SameNodePair, Option<Endpoint>>,
}

impl SameNodeEntries {
    /// Adds the address of a service that leads its client to the destination of a pair.
    pub fn add_service(&mut self, service: SameNodePair, destination: Endpoint) {
        match self.services.entry(service) {
            Entry::Vacant(entry) => drop(entry.insert(Some(destination))),
            Entry::Occupied(mut entry) if *entry.get() != Some(destination) => drop(entry.insert(None)),
            Entry::Occupied(_) => {}
        }
    }

    /// Where an address of a service leads its client.
    pub fn service(&self, service: &SameNodePair) -> Option<Endpoint> {
        *self.services.get(service)?
    }

    /// All that lead somewhere.
    pub fn services(&self) -> impl Iterator<Item = (SameNodePair, Endpoint)> {
        let services = self.services.iter();
        services.filter_map(|(service, destination)| Some((*service, (*destination)?)))
    }

    /// What is left without the pod with this cookie.
    pub(super) fn without(&self, cookie: u64) -> Self {
        let mut left = self.clone();
        left.pairs
            .retain(|pair, peer| pair.client != cookie && peer.server != cookie);
        let pairs = &left.pairs;
        left.services.retain(|service, destination| {
            destination.is_some_and(|destination| pairs.contains_key(&SameNodePair::new(service.client, destination)))
        });
        left
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn at(last: u8) -> Endpoint {
        SocketAddr::from(([198, 18, 0, last], 80)).into()
    }

    #[test]
    fn a_service_that_leads_to_two_pairs_leads_nowhere() {
        let mut entries = SameNodeEntries::default();
        let service = SameNodePair::new(1, at(99));
        entries.add_service(service, at(2));
        entries.add_service(service, at(2));
        assert_eq!(entries.service(&service), Some(at(2)));
        for destination in [3, 2] {
            entries.add_service(service, at(destination));
            assert_eq!((entries.service(&service), entries.services().count()), (None, 0));
        }
    }

    #[test]
    fn services_go_with_the_pairs_that_they_lead_to() {
        let mut entries = SameNodeEntries::default();
        for (client, server) in [(1, 2), (2, 1), (3, 4)] {
            let peer = SameNodePeer {
                server,
                source: at(client as u8).address,
            };
            entries.pairs.insert(SameNodePair::new(client, at(server as u8)), peer);
            entries.add_service(SameNodePair::new(client, at(99)), at(server as u8));
        }
        let left = entries.without(1);
        assert_eq!((left.pairs.len(), left.services().count()), (1, 1));
        assert_eq!(left.service(&SameNodePair::new(3, at(99))), Some(at(4)));
    }
}
