//! What a waypoint knows: immutable snapshots, and the store from which they are made.
//!
//! ```text
//! controller ──resources──> Store ── publish() ──> Snapshot ──> requests, each of which keeps the one that it began with
//! ```
//!
//! A change replaces the part that it concerns; everything else is shared with the snapshot before. Of the three maps only that is copied
//! in which something changed.
//!
//! | module | what |
//! |---|---|
//! | `clusters` | clusters with their endpoints; with `references` and `kept` what changes of one mean for the other |
//! | `warming` | clusters that changed, and wait for their endpoints |
//! | `awaited` | routes that are on their way |
//! | `draining` | what open connections go on with whose chain is gone |

mod awaited;
mod clusters;
mod draining;
mod kept;
mod references;
mod warming;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::AtomicI64},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use awaited::Awaited;
use clusters::Clusters;
use culvert_envoy::pb::envoy::config::{
    cluster::v3::Cluster as ClusterMessage, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener,
    route::v3::RouteConfiguration,
};
use culvert_http::RouteTable;
use culvert_telemetry::prometheus::{metrics::gauge::Gauge, registry::Registry};
pub use draining::DRAIN;
use draining::{Draining, Last};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use warming::Warming;

use crate::{
    cluster::Cluster,
    config::{
        cluster, endpoints,
        http_chain::HttpChain,
        listener::{self, Chains},
        refusal::Refusal,
    },
};

/// How often it is looked whether something was waited for long enough.
const INTERVAL: Duration = Duration::from_secs(1);

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
    /// Clusters that changed and wait for their endpoints; above are those that they are to replace.
    pub warming: Warming,
    /// What connections go on with whose chains are gone.
    draining: Draining,
}

impl Snapshot {
    /// What requests of a chain that is gone are decided by: what was known when it went. None once nobody should use it any more.
    pub fn before_end_of(&self, chain: &HttpChain) -> Option<Self> {
        let last = self.draining.of(chain)?;
        let routes = last.routes.iter();
        let routes = routes.map(|routes| (Arc::clone(&chain.routes), Arc::clone(routes)));
        Some(Self {
            routes: Arc::new(routes.collect()),
            clusters: Arc::clone(&last.clusters),
            ..Self::default()
        })
    }
}

/// Takes resources in.
#[derive(Debug, Default)]
pub struct Store {
    /// Without the clusters.
    snapshot: Snapshot,
    clusters: Clusters,
    /// Chains that are in force no longer since something was published last, and whether nothing is in their place.
    retired: Vec<(Arc<HttpChain>, bool)>,
    /// How many clusters wait for their endpoints.
    warming: Gauge<i64, AtomicI64>,
    published: Arc<ArcSwap<Snapshot>>,
}

impl Store {
    /// An empty one, whose metric is registered.
    pub fn register(registry: &mut Registry) -> Self {
        let store = Self::default();
        registry.register(
            "culvert_waypoint_warming_clusters",
            "Clusters that changed and wait for their endpoints, while requests go to what they were before",
            store.warming.clone(),
        );
        store
    }

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
        let retired = std::mem::take(&mut self.retired);
        self.keep_for(&retired);
        self.show(Snapshot {
            clusters: self.clusters.in_force(),
            ..self.snapshot.clone()
        });
        // Only now: their connections look for what has taken their place.
        retired.iter().for_each(|(chain, _)| chain.retirement.retire());
        self.snapshot.awaited.tell();
    }

    /// Takes `SCOPE/inbound` in.
    ///
    /// # Errors
    /// Where it is not served; what was there before stays, here and below.
    pub fn put_listener(&mut self, listener: &Listener) -> Result<(), Refusal> {
        let before = self.snapshot.chains.as_deref();
        let chains = listener::read(listener, before.unwrap_or(&Chains::default()))?;
        self.set_chains(chains);
        Ok(())
    }

    /// The controller has told all listeners that there are: without one, connections are refused.
    pub fn expect_listener(&mut self) {
        self.snapshot.chains.get_or_insert_default();
    }

    /// There is no listener any more: connections are refused.
    pub fn remove_listener(&mut self) {
        self.set_chains(Chains::default());
    }

    fn set_chains(&mut self, chains: Chains) {
        if let Some(before) = &self.snapshot.chains {
            self.retired.extend(before.retired_by(&chains));
        }
        self.snapshot.chains = Some(Arc::new(chains));
    }

    /// Connections of chains in whose place nothing is go on with what is known up to now.
    fn keep_for(&mut self, retired: &[(Arc<HttpChain>, bool)]) {
        let shown = self.published.load();
        for (chain, _) in retired.iter().filter(|(_, is_gone)| *is_gone) {
            let last = Last {
                routes: shown.routes.get(&chain.routes).cloned(),
                clusters: Arc::clone(&shown.clusters),
            };
            self.snapshot.draining.keep(chain, last, Instant::now());
        }
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

    /// Takes a cluster in. One that is served and changes stays in force until the endpoints of the changed one come, for 15 s at most.
    ///
    /// # Errors
    /// As above.
    pub fn put_cluster(&mut self, message: &ClusterMessage) -> Result<(), Refusal> {
        self.clusters.put(cluster::read(message)?, Instant::now());
        Ok(())
    }

    /// There is no such cluster any more. Requests that are under way to it go on.
    pub fn remove_cluster(&mut self, name: &str) {
        self.clusters.remove(name);
    }

    /// Takes endpoints in.
    ///
    /// # Errors
    /// As above.
    pub fn put_endpoints(&mut self, assignment: &ClusterLoadAssignment) -> Result<(), Refusal> {
        let configs = endpoints::read(assignment)?;
        self.clusters
            .put_endpoints(assignment.cluster_name.as_str().into(), configs);
        Ok(())
    }

    /// Endpoints of this name came and were refused: nobody waits for them, and if there were none before, there are none.
    pub fn refuse_endpoints(&mut self, name: &str) {
        self.clusters.refuse_endpoints(name);
    }

    /// Endpoints that nobody speaks of any more stay, as in Envoy, for as long as a cluster refers to them.
    pub fn remove_endpoints(&mut self, name: &str) {
        self.clusters.remove_endpoints(name);
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
        self.clusters.told().map(|(_, told)| told.to_string()).collect()
    }

    /// What is told when names are wanted that were not.
    pub fn names_changed(&self) -> Arc<Notify> {
        self.clusters.names_changed()
    }

    /// The names that endpoints are.
    pub fn wanted_names(&self) -> BTreeSet<Arc<str>> {
        self.clusters.names().cloned().collect()
    }

    /// A name leads to these addresses from now on: that is visible at once, and nothing else that was taken in. What of them is the mesh's
    /// is given to `refuse`, once for each endpoint, where it is new.
    pub fn put_addresses(&mut self, name: &Arc<str>, addresses: Vec<IpAddr>, refuse: impl FnMut(&str, SocketAddr)) {
        let mut visible = Snapshot::clone(&self.published.load());
        if self
            .clusters
            .put_addresses(name, addresses, &mut visible.clusters, refuse)
        {
            self.show(visible);
        }
    }

    /// A name leads nowhere, as far as anybody says: nobody waits for it.
    pub fn refuse_name(&mut self, name: &Arc<str>) {
        if !self.clusters.has_addresses(name) {
            self.put_addresses(name, Vec::new(), |_, _| {});
        }
    }

    /// A name is no endpoint any more.
    pub fn forget_name(&mut self, name: &str) {
        self.clusters.forget_name(name);
    }

    /// Gives up what was waited for long enough: that is visible at once, and nothing else that was taken in. To be called now and then.
    pub fn tend(&mut self, now: Instant) {
        self.snapshot.draining.sweep(now);
        let mut visible = Snapshot::clone(&self.published.load());
        let changed = self.clusters.give_up(now, &mut visible.clusters);
        if changed || visible.draining.sweep(now) {
            self.show(visible);
        }
    }

    /// Makes a part of what was taken in visible.
    fn show(&self, mut visible: Snapshot) {
        visible.warming = self.clusters.warming().clone();
        self.warming.set(visible.warming.count());
        self.published.store(Arc::new(visible));
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
        let unknown = self.clusters.missing();
        missing.extend(unknown.iter().map(|name| format!("endpoints `{name}`")));
        missing
    }
}

/// Tends a store, for ever.
pub async fn tend(store: Arc<Mutex<Store>>) {
    let mut tick = tokio::time::interval(INTERVAL);
    loop {
        tick.tick().await;
        store.lock().tend(Instant::now());
    }
}

#[cfg(test)]
mod tests;
