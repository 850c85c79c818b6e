//! Connections that wait until something is known.

use std::{net::IpAddr, sync::Arc};

use culvert_state::{Awaited, Pod};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{keys::FlowKey, sockets::Question};

/// By what they wait for, so that an answer wakes those alone whom it concerns.
#[derive(Debug, Default)]
pub(super) struct Parked {
    by_address: FxHashMap<IpAddr, Vec<FlowKey>>,
    /// By the host name of a waypoint.
    by_host: FxHashMap<Arc<str>, Vec<FlowKey>>,
    /// They wait for something else.
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
            Awaited::Host(host) => self.by_host.entry(Arc::clone(host)).or_default().push(key),
            awaited => match awaited.address() {
                Some(address) => self.by_address.entry(address).or_default().push(key),
                None => self.others.push(key),
            },
        }
    }

    /// Whether some connection waits for the answer to this question: it has been asked.
    pub(super) fn is_awaited(&self, question: &Question) -> bool {
        match question {
            Question::Address(address) => self.by_address.contains_key(address),
            Question::Host(host) => self.by_host.contains_key(host),
        }
    }

    /// Those that wait for one of these.
    pub(super) fn take(&mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<FlowKey> {
        addresses
            .into_iter()
            .filter_map(|address| self.by_address.remove(&address))
            .flatten()
            .collect()
    }

    /// Those that wait for one of these host names.
    pub(super) fn take_hosts(&mut self, hosts: &FxHashSet<Arc<str>>) -> Vec<FlowKey> {
        if self.by_host.is_empty() {
            return Vec::new();
        }
        let found = hosts.iter().filter_map(|host| self.by_host.remove(host));
        found.flatten().collect()
    }

    /// Those that wait for something that is neither an address nor a host name.
    pub(super) fn take_others(&mut self) -> Vec<FlowKey> {
        std::mem::take(&mut self.others)
    }

    /// All.
    pub(super) fn take_all(&mut self) -> Vec<FlowKey> {
        let mut all = self.take_others();
        all.extend(std::mem::take(&mut self.by_address).into_values().flatten());
        all.extend(std::mem::take(&mut self.by_host).into_values().flatten());
        all
    }

    /// Forgets those that do not wait any more.
    pub(super) fn retain(&mut self, waits: impl Fn(&FlowKey) -> bool) {
        self.others.retain(&waits);
        self.by_address.retain(|_, keys| {
            keys.retain(&waits);
            !keys.is_empty()
        });
        self.by_host.retain(|_, keys| {
            keys.retain(&waits);
            !keys.is_empty()
        });
    }
}
