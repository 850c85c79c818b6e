//! The pairs that were proposed and are not denied, within bounds.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use crate::seam::Together;

/// How many pairs there may be: fewer than the kernel's map has room for.
const PAIRS: usize = 8192;

/// How many to one address: what is said of a pod that is reached is one message.
const PAIRS_PER_ADDRESS: usize = 512;

/// By how many addresses of services a client may reach one pair: what is said of a pod is one message.
const SERVICES: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Pairs {
    all: BTreeSet<Together>,
    /// How many there are to an address; none that is zero.
    to_address: HashMap<IpAddr, usize>,
    /// Those that wait for a policy, and since when.
    waiting: BTreeMap<Together, Instant>,
    /// Addresses of services by which clients reach a pair; none that is empty.
    services: BTreeMap<Together, Vec<SocketAddr>>,
}

/// What came of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proposed {
    New,
    Known,
    NoRoom,
}

impl Pairs {
    pub(super) fn propose(&mut self, pair: &Together) -> Proposed {
        if self.all.contains(pair) {
            return Proposed::Known;
        }
        let to_address = self.to_address.get(&pair.destination.ip()).copied().unwrap_or_default();
        if self.all.len() >= PAIRS || to_address >= PAIRS_PER_ADDRESS {
            return Proposed::NoRoom;
        }
        self.to_address.insert(pair.destination.ip(), to_address + 1);
        self.all.insert(pair.clone());
        Proposed::New
    }

    pub(super) fn remove(&mut self, pair: &Together) {
        self.waiting.remove(pair);
        self.services.remove(pair);
        if !self.all.remove(pair) {
            return;
        }
        let address = pair.destination.ip();
        if let Some(to_address) = self.to_address.get_mut(&address) {
            *to_address -= 1;
            if *to_address == 0 {
                self.to_address.remove(&address);
            }
        }
    }

    /// A pair waits for a policy. Returns since when.
    pub(super) fn wait(&mut self, pair: &Together, now: Instant) -> Instant {
        *self.waiting.entry(pair.clone()).or_insert(now)
    }

    /// A pair does not wait, or no longer.
    pub(super) fn go_on(&mut self, pair: &Together) {
        self.waiting.remove(pair);
    }

    /// The client reaches a pair by an address of a service. False where that is known, and where there are too many.
    pub(super) fn add_service(&mut self, pair: &Together, service: SocketAddr) -> bool {
        let known = self.services(pair);
        if !self.all.contains(pair) || known.len() >= SERVICES || known.contains(&service) {
            return false;
        }
        self.services.entry(pair.clone()).or_default().push(service);
        true
    }

    /// By which addresses of services the client reaches a pair.
    pub(super) fn services(&self, pair: &Together) -> &[SocketAddr] {
        self.services.get(pair).map_or(&[], Vec::as_slice)
    }

    /// Only by these. False where there was none before.
    pub(super) fn keep_services(&mut self, pair: &Together, kept: &[SocketAddr]) -> bool {
        let Some(services) = self.services.get_mut(pair) else {
            return false;
        };
        services.retain(|service| kept.contains(service));
        if services.is_empty() {
            self.services.remove(pair);
        }
        true
    }

    /// The pairs that are reached by services.
    pub(super) fn with_services(&self) -> impl Iterator<Item = &Together> {
        self.services.keys()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn all(&self) -> Vec<Together> {
        self.all.iter().cloned().collect()
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = &Together> {
        self.waiting.keys()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;

    fn pair(server: u32, port: u16) -> Together {
        let address = |last| IpAddr::from(Ipv4Addr::from_bits(0xc612_0000 + last));
        Together {
            client: "front".into(),
            source: address(1),
            destination: SocketAddr::new(address(server), port),
        }
    }

    #[test]
    fn an_address_has_its_share_and_what_goes_makes_room() {
        let mut pairs = Pairs::default();
        for port in 0..PAIRS_PER_ADDRESS {
            assert_eq!(pairs.propose(&pair(2, port as u16)), Proposed::New);
        }
        assert_eq!(pairs.propose(&pair(2, 9999)), Proposed::NoRoom);
        assert_eq!(pairs.propose(&pair(2, 7)), Proposed::Known);
        assert_eq!(pairs.propose(&pair(3, 9999)), Proposed::New, "another address");
        pairs.remove(&pair(2, 7));
        pairs.remove(&pair(2, 7));
        assert_eq!(pairs.propose(&pair(2, 9999)), Proposed::New);
        assert_eq!(pairs.propose(&pair(2, 7)), Proposed::NoRoom, "it went once");
    }

    #[test]
    fn all_addresses_together_have_a_bound() {
        let mut pairs = Pairs::default();
        let mut proposed = (0..).map(|number| pair(2 + number / PAIRS_PER_ADDRESS as u32, number as u16));
        for pair in proposed.by_ref().take(PAIRS) {
            assert_eq!(pairs.propose(&pair), Proposed::New);
        }
        assert_eq!(proposed.next().map(|pair| pairs.propose(&pair)), Some(Proposed::NoRoom));
        for pair in pairs.all() {
            pairs.remove(&pair);
        }
        assert!(pairs.is_empty() && pairs.to_address.is_empty());
    }
}
