//! What a waypoint knows: immutable snapshots, and the store from which they are made.
//!
//! ```text
//! controller ──resources──> Store ── publish() ──> Snapshot ──> requests, each of which keeps the one that it began with
//! ```
//!
//! A change replaces the part that it concerns; everything else is shared with the snapshot before.

use std::{collections::BTreeSet, sync::Arc};

use arc_swap::ArcSwap;
use culvert_envoy::pb::envoy::config::{
    cluster::v3::Cluster as ClusterMessage, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener,
    route::v3::RouteConfiguration,
};
use culvert_http::RouteTable;
use rustc_hash::FxHashMap;

use crate::{
    cluster::Cluster,
    config::{
        cluster, endpoints,
        listener::{self, Chains},
        refusal::Refusal,
    },
    endpoint::Endpoint,
    endpoint_tls::EndpointTls,
};

/// Everything that requests are decided by. What of it is not there yet, decides nothing.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Filter chains; none before the listener came.
    pub chains: Option<Arc<Chains>>,
    /// Route configurations by name.
    pub routes: FxHashMap<Arc<str>, Arc<RouteTable>>,
    /// Clusters by name, with their endpoints.
    pub clusters: FxHashMap<Arc<str>, Arc<Cluster>>,
}

/// Takes resources in.
#[derive(Debug, Default)]
pub struct Store {
    snapshot: Snapshot,
    assignments: FxHashMap<Arc<str>, Arc<[Arc<Endpoint>]>>,
    published: Arc<ArcSwap<Snapshot>>,
}

impl Store {
    /// Snapshots as they are published.
    pub fn published(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.published)
    }

    /// Makes all that was taken in since the last time visible, at once.
    pub fn publish(&self) {
        self.published.store(Arc::new(self.snapshot.clone()));
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
        self.snapshot.routes.insert(name, Arc::new(compiled));
        Ok(())
    }

    /// There are no such routes any more.
    pub fn remove_routes(&mut self, name: &str) {
        self.snapshot.routes.remove(name);
    }

    /// Takes a cluster in.
    ///
    /// # Errors
    /// As above.
    pub fn put_cluster(&mut self, message: &ClusterMessage) -> Result<(), Refusal> {
        let mut config = cluster::read(message)?;
        let mut endpoints = self
            .assignments
            .get(&config.endpoints)
            .cloned()
            .unwrap_or_else(|| [].into());
        let name = Arc::clone(&config.name);
        let before = self.snapshot.clusters.get(&name).map(|before| &**before);
        match before {
            Some(before) if is_same_tls(before.config.tls.as_deref(), config.tls.as_deref()) => {
                config.tls.clone_from(&before.config.tls);
            }
            // Connections that were made in another way are not for it.
            _ => {
                let others = endpoints.iter();
                endpoints = others
                    .map(|endpoint| Arc::new(Endpoint::new(endpoint.config.clone(), None)))
                    .collect();
                self.assignments
                    .insert(Arc::clone(&config.endpoints), Arc::clone(&endpoints));
            }
        }
        let cluster = Cluster::new(Arc::new(config), endpoints, before);
        self.snapshot.clusters.insert(name, Arc::new(cluster));
        Ok(())
    }

    /// There is no such cluster any more. Requests that are under way to it go on.
    pub fn remove_cluster(&mut self, name: &str) {
        self.snapshot.clusters.remove(name);
    }

    /// Takes endpoints in.
    ///
    /// # Errors
    /// As above.
    pub fn put_endpoints(&mut self, assignment: &ClusterLoadAssignment) -> Result<(), Refusal> {
        let configs = endpoints::read(assignment)?;
        let name: Arc<str> = assignment.cluster_name.as_str().into();
        let before = self.assignments.get(&name).cloned().unwrap_or_else(|| [].into());
        // Pods share no address while both live, and few addresses have more than one endpoint in a cluster.
        let mut by_address: FxHashMap<_, Vec<&Arc<Endpoint>>> = FxHashMap::default();
        for endpoint in before.iter() {
            by_address.entry(endpoint.config.address).or_default().push(endpoint);
        }
        let endpoints: Arc<[Arc<Endpoint>]> = configs
            .into_iter()
            .map(|config| {
                let there = by_address.get(&config.address).into_iter().flatten();
                let same = there.copied().find(|endpoint| endpoint.is(&config));
                match same {
                    Some(same) if same.config == config => Arc::clone(same),
                    same => Arc::new(Endpoint::new(config, same.map(|same| &**same))),
                }
            })
            .collect();
        for cluster in self.snapshot.clusters.values_mut() {
            if cluster.config.endpoints == name {
                let with = Cluster::new(Arc::clone(&cluster.config), Arc::clone(&endpoints), Some(cluster));
                *cluster = Arc::new(with);
            }
        }
        self.assignments.insert(name, endpoints);
        Ok(())
    }

    /// Endpoints that nobody speaks of any more stay, as in Envoy, for as long as a cluster refers to them.
    pub fn remove_endpoints(&mut self, name: &str) {
        if !self
            .snapshot
            .clusters
            .values()
            .any(|cluster| *cluster.config.endpoints == *name)
        {
            self.assignments.remove(name);
        }
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
        clusters.map(|cluster| cluster.config.endpoints.to_string()).collect()
    }

    /// Lets endpoints back that were left out because they failed, where their time is over.
    pub fn sweep(snapshot: &Snapshot) {
        snapshot.clusters.values().for_each(|cluster| cluster.sweep());
    }

    /// What is referred to, and is not there yet.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if self.snapshot.chains.is_none() {
            missing.push("the listener".to_owned());
        }
        let routes = self.wanted_routes();
        let unknown = routes
            .iter()
            .filter(|name| !self.snapshot.routes.contains_key(name.as_str()));
        missing.extend(unknown.map(|name| format!("routes `{name}`")));
        let endpoints = self.wanted_endpoints();
        let unknown = endpoints
            .iter()
            .filter(|name| !self.assignments.contains_key(name.as_str()));
        missing.extend(unknown.map(|name| format!("endpoints `{name}`")));
        missing
    }
}

/// Whether connections that are made in one way are good for the other.
fn is_same_tls(one: Option<&EndpointTls>, other: Option<&EndpointTls>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => one.is_same(other),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
