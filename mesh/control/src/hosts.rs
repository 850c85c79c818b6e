//! Host names that pods resolve, asked for on demand as addresses are.
//!
//! Nothing tells whether an answer is still in use that a pod was given. So a name is given up some time after it was asked for
//! last, and asked for again by the next query. That of a waypoint stays as long as connections go through it.

use std::sync::Arc;

use culvert_proto::{ADDRESS_TYPE, HOST_ALIAS, discovery::DeltaDiscoveryRequest};
use tokio::time::Instant;

use crate::{
    alias::host_alias,
    subscriptions::Asked,
    xds::{Configuration, both},
};

impl Configuration {
    /// Takes questions in.
    pub(super) fn ask_hosts(&mut self, hosts: Vec<Box<str>>) -> Option<DeltaDiscoveryRequest> {
        if !self.on_demand {
            return None;
        }
        let now = Instant::now();
        let (mut new, mut is_seen_late) = (Vec::new(), false);
        for host in hosts {
            let host: Arc<str> = host.into();
            match self.hosts.ask(&host, now) {
                Asked::New => new.push(host_alias(&host)),
                Asked::Pending => {}
                // Whoever asks had not seen it.
                Asked::Answered => {
                    self.store.set_host_answered(&host);
                    is_seen_late = true;
                }
            }
        }
        if is_seen_late {
            self.publish();
        }
        if new.is_empty() {
            return None;
        }
        let subscribe = self.client.subscribe(ADDRESS_TYPE, new);
        let gone = self.hosts.take_excess(|_| false);
        let unsubscribe = self.give_up(Vec::new(), gone);
        self.show_subscriptions();
        both(subscribe, unsubscribe)
    }

    /// Marks host names as answered: those of which a response said something, and those of which it says that nobody has them.
    /// The first of a stream is an answer to all: what the proxy has kept from the last one is not sent again.
    pub(super) fn settle_hosts(&mut self, removed: &[String], is_first: bool) {
        let touched = self.store.changed_hosts().cloned();
        let missing = removed
            .iter()
            .filter_map(|name| Some(Arc::from(name.strip_prefix(HOST_ALIAS)?)));
        let mut answered: Vec<Arc<str>> = touched.chain(missing).collect();
        if is_first {
            let kept = self.hosts.pending().filter(|host| self.store.knows_host(host));
            answered.extend(kept.cloned());
        }
        for host in answered {
            if self.hosts.answer(&host, self.store.knows_host(&host)) {
                self.store.set_host_answered(&host);
            }
        }
    }
}
