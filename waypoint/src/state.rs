//! What a waypoint knows: immutable snapshots, and the store from which they are made.
//!
//! ```text
//! controller ──resources──> Store ── publish() ──> Snapshot ──> requests, each of which keeps the one that it began with
//! ```
//!
//! A change replaces the part that it concerns; everything else is shared with the snapshot before. Of the three maps only that is copied
//! in which something changed.

mod awaited;
mod kept;
mod references;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use arc_swap::ArcSwap;
use awaited::Awaited;
use culvert_envoy::pb::envoy::config::{
    cluster::v3::Cluster as ClusterMessage, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener,
    route::v3::RouteConfiguration,
};
use culvert_http::RouteTable;
use kept::{is_same_tls, made, renamed};
use references::References;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use crate::{
    cluster::Cluster,
    config::{
        cluster,
        discovery::Discovery,
        endpoints,
        listener::{self, Chains},
        refusal::Refusal,
    },
    endpoint::Endpoint,
};

/// Everything that requests are decided by. What of it is not there yet, decides nothing.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Filter chains; none before the listener came.
    pub chains: Option<Arc<Chains>>,
    /// Route configurations by name.
    pub routes: Arc<FxHashMap<Arc<str>, Arc<RouteTable>>>,
    /// Clusters by name, with their endpoints.
    pub clusters: Arc<FxHashMap<Arc<str>, Arc<Cluster>>>,
    /// Route configurations that chains refer to and that are still on their way.
    pub awaited: Awaited,
}

/// Takes resources in.
#[derive(Debug, Default)]
pub struct Store {
    snapshot: Snapshot,
    assignments: FxHashMap<Arc<str>, Arc<[Arc<Endpoint>]>>,
    /// Endpoints that were refused, or are said not to exist, and were never there.
    given_up: BTreeSet<String>,
    /// What names led to last.
    addresses: FxHashMap<Arc<str>, Vec<IpAddr>>,
    /// Told when a cluster comes whose endpoints are names.
    names: Arc<Notify>,
    references: References,
    published: Arc<ArcSwap<Snapshot>>,
}

impl Store {
    /// Snapshots as they are published.
    pub fn published(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.published)
    }

    /// Makes all that was taken in since the last time visible, at once.
    pub fn publish(&mut self) {
        let chains = self.snapshot.chains.iter();
        let wanted = chains.flat_map(|chains| chains.routes());
        let awaited = &mut self.snapshot.awaited;
        awaited.want(wanted, |name| self.snapshot.routes.contains_key(name));
        self.published.store(Arc::new(self.snapshot.clone()));
        self.snapshot.awaited.tell();
    }

    /// Takes `SCOPE/inbound` in.
    ///
    /// # Errors
    /// Where it is not served; what was there before stays, here and below.
    pub fn put_listener(&mut self, listener: &Listener) -> Result<(), Refusal> {
        self.snapshot.chains = Some(Arc::new(listener::read(listener)?));
        Ok(())
    }

    /// The controller has told all listeners that there are: without one, connections are refused.
    pub fn expect_listener(&mut self) {
        self.snapshot.chains.get_or_insert_default();
    }

    /// There is no listener any more: connections are refused.
    pub fn remove_listener(&mut self) {
        self.snapshot.chains = Some(Arc::default());
    }

    /// Takes a route configuration in.
    ///
    /// # Errors
    /// As above.
    pub fn put_routes(&mut self, routes: &RouteConfiguration) -> Result<(), Refusal> {
        let compiled = RouteTable::compile(routes).map_err(|error| Refusal::new("routes", error.to_string()))?;
        let name = routes.name.as_str().into();
        Arc::make_mut(&mut self.snapshot.routes).insert(name, Arc::new(compiled));
        Ok(())
    }

    /// Routes of this name came and were refused: if there were none before, nobody waits for them any longer.
    pub fn refuse_routes(&mut self, name: &str) {
        self.snapshot.awaited.give_up(name);
    }

    /// There are no such routes any more.
    pub fn remove_routes(&mut self, name: &str) {
        self.snapshot.awaited.give_up(name);
        // What is not there needs no copy of the others.
        if self.snapshot.routes.contains_key(name) {
            Arc::make_mut(&mut self.snapshot.routes).remove(name);
        }
    }

    /// Takes a cluster in.
    ///
    /// # Errors
    /// As above.
    pub fn put_cluster(&mut self, message: &ClusterMessage) -> Result<(), Refusal> {
        let mut config = cluster::read(message)?;
        let name = Arc::clone(&config.name);
        let before = self.snapshot.clusters.get(&name).map(|before| &**before);
        let tls_before = before.map(|before| before.config.tls.as_ref());
        // Connections that were made in another way are not for it.
        let is_same = tls_before.is_some_and(|tls| is_same_tls(tls.map(|tls| &**tls), config.tls.as_deref()));
        if is_same {
            config.tls = tls_before.flatten().cloned();
        }
        if let Some(told) = before.and_then(|before| before.config.told()) {
            self.references.remove(told, &name);
        }
        if let Some(told) = config.told() {
            self.references.add(told, &name);
        }
        let endpoints = match &config.discovery {
            Discovery::Told(told) => {
                let known = self.assignments.get(told).cloned().unwrap_or_default();
                match is_same {
                    true => known,
                    false => {
                        let anew = known.iter().map(|known| Endpoint::new(known.config.clone(), None));
                        let anew: Arc<[Arc<Endpoint>]> = anew.map(Arc::new).collect();
                        if self.assignments.contains_key(told) {
                            self.assignments.insert(Arc::clone(told), Arc::clone(&anew));
                        }
                        anew
                    }
                }
            }
            Discovery::Named(named) => {
                self.names.notify_one();
                let addresses = |name: &str| self.addresses.get(name).map_or(&[][..], Vec::as_slice);
                let before = before.filter(|_| is_same).map(|before| &*before.endpoints);
                // What of it is the mesh's was said when the name was resolved.
                made(named.endpoints(addresses, |_, _| {}), before.unwrap_or_default())
            }
            Discovery::Dialled(_) => Arc::default(),
        };
        // What was dialled is remembered with what is counted.
        let is_dialled = matches!(config.discovery, Discovery::Dialled(_));
        let counted = before.filter(|_| is_same || !is_dialled);
        let cluster = Cluster::new(Arc::new(config), endpoints, counted);
        Arc::make_mut(&mut self.snapshot.clusters).insert(name, Arc::new(cluster));
        Ok(())
    }

    /// There is no such cluster any more. Requests that are under way to it go on.
    pub fn remove_cluster(&mut self, name: &str) {
        if let Some(before) = self.snapshot.clusters.get(name) {
            if let Some(told) = before.config.told() {
                self.references.remove(told, name);
            }
            Arc::make_mut(&mut self.snapshot.clusters).remove(name);
        }
    }

    /// Takes endpoints in.
    ///
    /// # Errors
    /// As above.
    pub fn put_endpoints(&mut self, assignment: &ClusterLoadAssignment) -> Result<(), Refusal> {
        let configs = endpoints::read(assignment)?;
        let name: Arc<str> = assignment.cluster_name.as_str().into();
        let before = self.assignments.get(&name).cloned().unwrap_or_default();
        let endpoints = made(configs, &before);
        for referring in self.references.of(&name) {
            if let Some(cluster) = Arc::make_mut(&mut self.snapshot.clusters).get_mut(referring) {
                let with = Cluster::new(Arc::clone(&cluster.config), Arc::clone(&endpoints), Some(cluster));
                *cluster = Arc::new(with);
            }
        }
        self.given_up.remove(&*name);
        self.assignments.insert(name, endpoints);
        Ok(())
    }

    /// Endpoints of this name came and were refused: if there were none before, they are missing no longer, and there are none.
    pub fn refuse_endpoints(&mut self, name: &str) {
        if !self.assignments.contains_key(name) {
            self.given_up.insert(name.to_owned());
        }
    }

    /// Endpoints that nobody speaks of any more stay, as in Envoy, for as long as a cluster refers to them.
    pub fn remove_endpoints(&mut self, name: &str) {
        if self.references.of(name).next().is_some() {
            return self.refuse_endpoints(name);
        }
        self.assignments.remove(name);
        self.given_up.remove(name);
    }

    /// The names of route configurations that chains refer to.
    pub fn wanted_routes(&self) -> BTreeSet<String> {
        let chains = self.snapshot.chains.iter();
        chains
            .flat_map(|chains| chains.routes())
            .map(ToString::to_string)
            .collect()
    }

    /// The names of endpoints that clusters refer to.
    pub fn wanted_endpoints(&self) -> BTreeSet<String> {
        let clusters = self.snapshot.clusters.values();
        let told = clusters.filter_map(|cluster| cluster.config.told());
        told.map(ToString::to_string).collect()
    }

    /// What is told when names are wanted that were not.
    pub fn names_changed(&self) -> Arc<Notify> {
        Arc::clone(&self.names)
    }

    /// The names that endpoints are.
    pub fn wanted_names(&self) -> BTreeSet<Arc<str>> {
        let clusters = self.snapshot.clusters.values();
        let named = clusters.filter_map(|cluster| cluster.config.named());
        named.flat_map(|named| named.names().cloned()).collect()
    }

    /// A name leads to these addresses from now on: that is visible at once, and nothing else that was taken in. What of them is the mesh's
    /// is given to `refuse`, once for each endpoint, where it is new.
    pub fn put_addresses(&mut self, name: &Arc<str>, addresses: Vec<IpAddr>, mut refuse: impl FnMut(&str, SocketAddr)) {
        if self.addresses.get(name) == Some(&addresses) {
            return;
        }
        self.addresses.insert(Arc::clone(name), addresses);
        let mut visible = Snapshot::clone(&self.published.load());
        let all_shown = Arc::make_mut(&mut visible.clusters);
        let all = Arc::make_mut(&mut self.snapshot.clusters);
        for (place, cluster) in all.iter_mut() {
            let Some(changed) = renamed(cluster, name, &self.addresses, &mut refuse) else {
                continue;
            };
            if let Some(shown) = all_shown.get_mut(place)
                && Arc::ptr_eq(&shown.config, &cluster.config)
            {
                *shown = Arc::clone(&changed);
            }
            *cluster = changed;
        }
        for shown in all_shown.values_mut() {
            let is_new = all.get(&shown.config.name);
            if is_new.is_some_and(|new| Arc::ptr_eq(&new.config, &shown.config)) {
                continue;
            }
            // One that is to be replaced or removed by what is not visible yet.
            if let Some(changed) = renamed(shown, name, &self.addresses, &mut |_, _| {}) {
                *shown = changed;
            }
        }
        self.published.store(Arc::new(visible));
    }

    /// A name is no endpoint any more.
    pub fn forget_name(&mut self, name: &str) {
        self.addresses.remove(name);
    }

    /// Lets endpoints back that were left out because they failed, where their time is over.
    pub fn sweep(snapshot: &Snapshot) {
        snapshot.clusters.values().for_each(|cluster| cluster.sweep());
    }

    /// What is referred to, and is not there yet, as of the last time that something was published. What was refused, or is said not to
    /// exist, is not waited for.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if self.snapshot.chains.is_none() {
            missing.push("the listener".to_owned());
        }
        let unknown: BTreeSet<&str> = self.snapshot.awaited.names().collect();
        missing.extend(unknown.iter().map(|name| format!("routes `{name}`")));
        let clusters = self.snapshot.clusters.values();
        let endpoints = clusters.filter_map(|cluster| cluster.config.told()).map(|told| &**told);
        let is_unknown = |name: &&str| !self.assignments.contains_key(*name) && !self.given_up.contains(*name);
        let unknown: BTreeSet<&str> = endpoints.filter(is_unknown).collect();
        missing.extend(unknown.iter().map(|name| format!("endpoints `{name}`")));
        missing
    }
}

#[cfg(test)]
mod tests;
