//! Endpoints that clients have dialled themselves: those of a cluster whose connections go where they were going.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::{config::endpoints::EndpointConfig, endpoint::Endpoint};

/// So many are remembered, beside those that are in use.
const MOST: usize = 1024;

/// The endpoints, as long as somebody uses them, and some beyond: their connections are kept for the next request.
#[derive(Debug, Default)]
pub(crate) struct Dialled {
    endpoints: Mutex<FxHashMap<SocketAddr, Arc<Endpoint>>>,
}

impl Dialled {
    /// The endpoint at an address.
    pub(crate) fn at(&self, address: SocketAddr) -> Arc<Endpoint> {
        let mut endpoints = self.endpoints.lock();
        if endpoints.len() >= MOST && !endpoints.contains_key(&address) {
            endpoints.retain(|_, endpoint| Arc::strong_count(endpoint) > 1);
        }
        let new = || Arc::new(Endpoint::new(EndpointConfig::dialled(address), None));
        Arc::clone(endpoints.entry(address).or_insert_with(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_stays_the_same_while_it_is_used_and_there_are_not_ever_more() {
        let dialled = Dialled::default();
        let address = |number: u32| SocketAddr::from((std::net::Ipv4Addr::from(number), 80));
        let first = dialled.at(address(0));
        for number in 1..10_000 {
            dialled.at(address(number));
        }
        assert_eq!(dialled.at(address(0)).id, first.id);
        assert!(dialled.endpoints.lock().len() <= MOST);
    }
}
