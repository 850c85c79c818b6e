//! Connections that wait until something is known.

use std::net::IpAddr;

use culvert_state::{Awaited, Pod};
use rustc_hash::FxHashMap;

use super::keys::FlowKey;

/// By what they wait for, so that an answer wakes those alone whom it concerns.
#[derive(Debug, Default)]
pub(super) struct Parked {
    by_address: FxHashMap<IpAddr, Vec<FlowKey>>,
    /// They wait for something that is not an address.
    others: Vec<FlowKey>,
}

impl Parked {
    /// A connection of `pod` waits.
    pub(super) fn add(&mut self, key: FlowKey, awaited: &Awaited, pod: &Pod) {
        match awaited {
            // Whichever of its addresses the controller has heard of first.
            Awaited::Own(_) => {
                for address in &pod.addresses {
                    self.by_address.entry(address.to_canonical()).or_default().push(key);
                }
            }
            awaited => match awaited.address() {
                Some(address) => self.by_address.entry(address).or_default().push(key),
                None => self.others.push(key),
            },
        }
    }

    /// Whether some connection waits for something about this address: it has been asked for.
    pub(super) fn is_awaited(&self, address: IpAddr) -> bool {
        self.by_address.contains_key(&address)
    }

    /// Those that wait for one of these.
    pub(super) fn take(&mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<FlowKey> {
        addresses
            .into_iter()
            .filter_map(|address| self.by_address.remove(&address))
            .flatten()
            .collect()
    }

    /// Those that wait for something that is not an address.
    pub(super) fn take_others(&mut self) -> Vec<FlowKey> {
        std::mem::take(&mut self.others)
    }

    /// All.
    pub(super) fn take_all(&mut self) -> Vec<FlowKey> {
        let mut all = self.take_others();
        all.extend(std::mem::take(&mut self.by_address).into_values().flatten());
        all
    }

    /// Forgets those that do not wait any more.
    pub(super) fn retain(&mut self, waits: impl Fn(&FlowKey) -> bool) {
        self.others.retain(&waits);
        self.by_address.retain(|_, keys| {
            keys.retain(&waits);
            !keys.is_empty()
        });
    }
}
