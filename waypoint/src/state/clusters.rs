//! Clusters, with the endpoints that they refer to.
//!
//! One that is served and changes stays in force, whole, until the endpoints of the changed one have come, as with Envoy: requests go
//! where they went before rather than nowhere.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use super::{
    kept::{made, renamed},
    references::References,
    warming::Warming,
};
use crate::{
    cluster::Cluster,
    config::{cluster::ClusterConfig, discovery::Discovery, endpoints::EndpointConfig},
    endpoint::Endpoint,
};

/// Clusters by name.
type ByName = FxHashMap<Arc<str>, Arc<Cluster>>;

/// All clusters that there are.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    in_force: Arc<ByName>,
    /// What some of them are to be.
    warming: Warming,
    assignments: FxHashMap<Arc<str>, Arc<[Arc<Endpoint>]>>,
    /// Endpoints that were refused, or are said not to exist, and were never there.
    given_up: BTreeSet<String>,
    /// What names led to last.
    addresses: FxHashMap<Arc<str>, Vec<IpAddr>>,
    /// Told when a cluster comes whose endpoints are names.
    names: Arc<Notify>,
    references: References,
}

impl Clusters {
    /// Those that requests go to.
    pub(super) fn in_force(&self) -> Arc<ByName> {
        Arc::clone(&self.in_force)
    }

    /// Those that are to replace some of them.
    pub(super) fn warming(&self) -> &Warming {
        &self.warming
    }

    /// Takes a cluster in.
    pub(super) fn put(&mut self, config: ClusterConfig, now: Instant) {
        let name = Arc::clone(&config.name);
        let in_force = self.in_force.get(&name);
        let last = self.warming.get(&name).or(in_force.map(|cluster| &cluster.config));
        // Told again, as after a reconnect: nothing is to be waited for.
        if last.is_some_and(|last| last.said == config.said) {
            return;
        }
        if config.named().is_some() {
            self.names.notify_one();
        }
        if in_force.is_some_and(|cluster| is_served(cluster)) && self.awaits(&config) {
            tracing::debug!(cluster = %name, "a cluster changes: it stays as it is until its endpoints come");
            self.referring_anew(&name, |clusters| clusters.warming.put(config, now));
        } else {
            self.referring_anew(&name, |clusters| {
                clusters.warming.take(&config.name);
                clusters.enter(config);
            });
        }
    }

    /// There is no such cluster any more.
    pub(super) fn remove(&mut self, name: &str) {
        let Some((name, _)) = self.in_force.get_key_value(name) else {
            return;
        };
        let name = Arc::clone(name);
        self.referring_anew(&name, |clusters| {
            clusters.warming.take(&name);
            Arc::make_mut(&mut clusters.in_force).remove(&name);
        });
    }

    /// Takes endpoints in.
    pub(super) fn put_endpoints(&mut self, name: Arc<str>, configs: Vec<EndpointConfig>) {
        let before = self.assignments.get(&name).cloned().unwrap_or_default();
        let endpoints = made(configs, &before);
        self.given_up.remove(&*name);
        self.assignments.insert(Arc::clone(&name), Arc::clone(&endpoints));
        for referring in self.referring_to(&name) {
            if self.is_awaited_by(&referring, &name) {
                self.finish(&referring);
            } else if let Some(cluster) = self.in_force.get(&referring)
                && cluster.config.told() == Some(&name)
            {
                let with = Cluster::new(Arc::clone(&cluster.config), Arc::clone(&endpoints), Some(cluster));
                Arc::make_mut(&mut self.in_force).insert(referring, Arc::new(with));
            }
        }
    }

    /// Endpoints of this name came and were refused.
    pub(super) fn refuse_endpoints(&mut self, name: &str) {
        if !self.assignments.contains_key(name) {
            self.given_up.insert(name.to_owned());
        }
        for referring in self.referring_to(name) {
            if self.is_awaited_by(&referring, name) {
                self.finish(&referring);
            }
        }
    }

    /// Nobody speaks of these endpoints any more.
    pub(super) fn remove_endpoints(&mut self, name: &str) {
        if self.references.of(name).next().is_some() {
            return self.refuse_endpoints(name);
        }
        self.assignments.remove(name);
        self.given_up.remove(name);
    }

    /// Names of clusters, and of the endpoints that they refer to, or will.
    pub(super) fn told(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        let all = self.configs();
        all.filter_map(|config| Some((&config.name, config.told()?)))
    }

    /// The names that endpoints are, or will be.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        let named = self.configs().filter_map(|config| config.named());
        named.flat_map(|named| named.names())
    }

    /// What is told when there are others.
    pub(super) fn names_changed(&self) -> Arc<Notify> {
        Arc::clone(&self.names)
    }

    /// Endpoints that are referred to and are not there yet.
    pub(super) fn missing(&self) -> BTreeSet<&str> {
        let told = self.told().map(|(_, told)| &**told);
        let is_unknown = |name: &&str| !self.assignments.contains_key(*name) && !self.given_up.contains(*name);
        told.filter(is_unknown).collect()
    }

    /// Whether it is known where a name leads, be it nowhere.
    pub(super) fn has_addresses(&self, name: &str) -> bool {
        self.addresses.contains_key(name)
    }

    /// A name leads to these addresses: here, and in what is `visible` already. Whether that is new.
    pub(super) fn put_addresses(
        &mut self,
        name: &Arc<str>,
        addresses: Vec<IpAddr>,
        visible: &mut Arc<ByName>,
        mut refuse: impl FnMut(&str, SocketAddr),
    ) -> bool {
        if self.addresses.get(name) == Some(&addresses) {
            return false;
        }
        self.addresses.insert(Arc::clone(name), addresses);
        let all_shown = Arc::make_mut(visible);
        let all = Arc::make_mut(&mut self.in_force);
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
        let waiting = self.warming.configs().filter(|config| config.named().is_some());
        let ready = waiting.filter(|config| !self.awaits(config));
        let ready: Vec<Arc<str>> = ready.map(|config| Arc::clone(&config.name)).collect();
        ready.iter().for_each(|name| self.finish_visibly(name, visible));
        true
    }

    /// A name is no endpoint any more.
    pub(super) fn forget_name(&mut self, name: &str) {
        self.addresses.remove(name);
    }

    /// Clusters that have waited long enough are in force with what they have: here, and in what is `visible` already. Whether there are any.
    pub(super) fn give_up(&mut self, now: Instant, visible: &mut Arc<ByName>) -> bool {
        let late = self.warming.late(now);
        for name in &late {
            tracing::warn!(
                cluster = %name,
                "the endpoints of a cluster that changed did not come in time: it is in force with those that are known"
            );
            self.finish_visibly(name, visible);
        }
        !late.is_empty()
    }

    /// Of all of them, and of what they are to be.
    fn configs(&self) -> impl Iterator<Item = &Arc<ClusterConfig>> {
        let in_force = self.in_force.values().map(|cluster| &cluster.config);
        in_force.chain(self.warming.configs())
    }

    /// Whether a cluster has to wait for its endpoints. The controller tells those anew whenever it changes a cluster, since Envoy would
    /// not ask for them.
    fn awaits(&self, config: &ClusterConfig) -> bool {
        match &config.discovery {
            Discovery::Told(_) => true,
            Discovery::Named(named) => named.names().any(|name| !self.addresses.contains_key(name)),
            Discovery::Dialled(_) => false,
        }
    }

    fn is_awaited_by(&self, cluster: &str, endpoints: &str) -> bool {
        let told = self.warming.get(cluster).and_then(|config| config.told());
        told.is_some_and(|told| **told == *endpoints)
    }

    fn referring_to(&self, endpoints: &str) -> Vec<Arc<str>> {
        self.references.of(endpoints).cloned().collect()
    }

    /// A cluster is, from now on, what it was to be.
    fn finish(&mut self, name: &Arc<str>) {
        self.referring_anew(name, |clusters| {
            if let Some(config) = clusters.warming.take(name) {
                clusters.enter(config);
            }
        });
    }

    fn finish_visibly(&mut self, name: &Arc<str>, visible: &mut Arc<ByName>) {
        let before = self.in_force.get(name).cloned();
        self.finish(name);
        let is_shown = |before: &Arc<Cluster>| {
            let shown = visible.get(name);
            shown.is_some_and(|shown| Arc::ptr_eq(&shown.config, &before.config))
        };
        if before.is_some_and(|before| is_shown(&before))
            && let Some(new) = self.in_force.get(name)
        {
            Arc::make_mut(visible).insert(Arc::clone(name), Arc::clone(new));
        }
    }

    /// Changes something about a cluster, after which it may refer to other endpoints.
    fn referring_anew(&mut self, name: &Arc<str>, change: impl FnOnce(&mut Self)) {
        let told = |clusters: &Self| {
            let in_force = clusters.in_force.get(name).map(|cluster| &cluster.config);
            let all = in_force.into_iter().chain(clusters.warming.get(name));
            all.filter_map(|config| config.told().cloned()).collect::<Vec<_>>()
        };
        told(self).iter().for_each(|told| self.references.remove(told, name));
        change(self);
        told(self).iter().for_each(|told| self.references.add(told, name));
    }

    /// A cluster is in force, with the endpoints that are known of it.
    fn enter(&mut self, mut config: ClusterConfig) {
        let name = Arc::clone(&config.name);
        let before = self.in_force.get(&name).map(|before| &**before);
        // Connections that were made in another way are not for it.
        let same = before.filter(|before| before.config.is_spoken_to_like(&config));
        let is_same = same.is_some();
        if let Some(same) = same {
            config.tls.clone_from(&same.config.tls);
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
        Arc::make_mut(&mut self.in_force).insert(name, Arc::new(cluster));
    }
}

/// Whether requests to it go anywhere.
fn is_served(cluster: &Cluster) -> bool {
    matches!(cluster.config.discovery, Discovery::Dialled(_)) || !cluster.endpoints.is_empty()
}
