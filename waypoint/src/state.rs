//! What a waypoint knows: immutable snapshots, and the store from which they are made.
//!
//! ```text
//! controller ──resources──> Store ── publish() ──> Snapshot ──> requests, each of which keeps the one that it began with
//! ```
//!
//! A change replaces the part that it concerns; everything else is shared with the snapshot before. Of the three maps only that is copied
//! in which something changed.

mod references;

use std::{collections::BTreeSet, sync::Arc};

use arc_swap::ArcSwap;
use culvert_envoy::pb::envoy::config::{
    cluster::v3::Cluster as ClusterMessage, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener,
    route::v3::RouteConfiguration,
};
use culvert_http::RouteTable;
use references::References;
use rustc_hash::FxHashMap;

use crate::{
    cluster::Cluster,
    config::{
        cluster, endpoints,
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
}

/// Takes resources in.
#[derive(Debug, Default)]
pub struct Store {
    snapshot: Snapshot,
    assignments: FxHashMap<Arc<str>, Arc<[Arc<Endpoint>]>>,
    references: References,
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
        Arc::make_mut(&mut self.snapshot.routes).insert(name, Arc::new(compiled));
        Ok(())
    }

    /// There are no such routes any more.
    pub fn remove_routes(&mut self, name: &str) {
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
        let config = Arc::new(cluster::read(message)?);
        let endpoints = self
            .assignments
            .get(&config.endpoints)
            .cloned()
            .unwrap_or_else(|| [].into());
        let name = Arc::clone(&config.name);
        let before = self.snapshot.clusters.get(&name).map(|before| &**before);
        if let Some(before) = before {
            self.references.remove(&before.config.endpoints, &name);
        }
        self.references.add(&config.endpoints, &name);
        let cluster = Cluster::new(config, endpoints, before);
        Arc::make_mut(&mut self.snapshot.clusters).insert(name, Arc::new(cluster));
        Ok(())
    }

    /// There is no such cluster any more. Requests that are under way to it go on.
    pub fn remove_cluster(&mut self, name: &str) {
        if let Some(before) = self.snapshot.clusters.get(name) {
            self.references.remove(&before.config.endpoints, name);
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
        for referring in self.references.of(&name) {
            if let Some(cluster) = Arc::make_mut(&mut self.snapshot.clusters).get_mut(referring) {
                let with = Cluster::new(Arc::clone(&cluster.config), Arc::clone(&endpoints), Some(cluster));
                *cluster = Arc::new(with);
            }
        }
        self.assignments.insert(name, endpoints);
        Ok(())
    }

    /// Endpoints that nobody speaks of any more stay, as in Envoy, for as long as a cluster refers to them.
    pub fn remove_endpoints(&mut self, name: &str) {
        if self.references.of(name).next().is_none() {
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
        let chains = self.snapshot.chains.iter();
        let routes = chains.flat_map(|chains| chains.routes());
        let unknown = routes.filter(|name| !self.snapshot.routes.contains_key(*name));
        let unknown: BTreeSet<&str> = unknown.map(|name| &**name).collect();
        missing.extend(unknown.iter().map(|name| format!("routes `{name}`")));
        let clusters = self.snapshot.clusters.values();
        let endpoints = clusters.map(|cluster| &*cluster.config.endpoints);
        let unknown: BTreeSet<&str> = endpoints.filter(|name| !self.assignments.contains_key(*name)).collect();
        missing.extend(unknown.iter().map(|name| format!("endpoints `{name}`")));
        missing
    }
}
