//! From what the controller sends to the [`Store`]: each resource is taken over or refused by name.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use culvert_control::{ResourceType, Resources};
use culvert_envoy::{
    CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE, names,
    pb::envoy::config::{
        cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener,
        route::v3::RouteConfiguration,
    },
};
use culvert_proto::discovery::Resource;
use culvert_xds::client::{Mode, Rejection, Update};
use parking_lot::Mutex;
use prost::{Message, Name};

use crate::state::Store;

/// What readiness and the admin pages see of configuration.
#[derive(Debug)]
pub struct Progress {
    missing: ArcSwap<Vec<String>>,
    was_complete: AtomicBool,
}

impl Progress {
    /// What is referred to, and is not there yet.
    pub fn missing(&self) -> Arc<Vec<String>> {
        self.missing.load_full()
    }

    /// What keeps the waypoint from serving: what of its first configuration is missing. What comes later is asked for while everything
    /// else is served: no Service may take the waypoint from the others.
    pub fn keeps_from_serving(&self) -> Arc<Vec<String>> {
        match self.was_complete.load(Ordering::Relaxed) {
            true => Arc::default(),
            false => self.missing(),
        }
    }

    fn set(&self, missing: Vec<String>) {
        if missing.is_empty() && !self.was_complete.swap(true, Ordering::Relaxed) {
            tracing::info!("configuration is complete");
        }
        self.missing.store(Arc::new(missing));
    }
}

/// Subscribes on behalf of one waypoint.
#[derive(Debug)]
pub struct Subscriber {
    store: Arc<Mutex<Store>>,
    /// The name of the listener that is read; there is no other.
    inbound: String,
    /// What is still missing.
    progress: Arc<Progress>,
    clusters_came: bool,
}

impl Subscriber {
    /// For the waypoint of this scope, `NAMESPACE/GATEWAY`.
    pub fn new(store: Arc<Mutex<Store>>, scope: &str) -> Self {
        Self {
            store,
            inbound: names::inbound(scope),
            progress: Arc::new(Progress {
                missing: ArcSwap::from_pointee(vec!["configuration from the controller".to_owned()]),
                was_complete: AtomicBool::new(false),
            }),
            clusters_came: false,
        }
    }

    /// What is missing before requests can be decided about; empty once everything came.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    fn put(&mut self, type_url: &str, resource: &Resource) -> Result<(), String> {
        let name = &resource.name;
        match type_url {
            LISTENER_TYPE | CLUSTER_TYPE if names::is_plumbing(name) => Ok(()),
            LISTENER_TYPE if *name == self.inbound => {
                let message = decode::<Listener>(resource)?;
                self.store
                    .lock()
                    .put_listener(&message)
                    .map_err(|refusal| refusal.to_string())
            }
            LISTENER_TYPE => Err(format!("only the listener {} is served here", self.inbound)),
            // The cluster that leads into the listener of this name.
            CLUSTER_TYPE if *name == self.inbound => Ok(()),
            CLUSTER_TYPE => {
                let message = decode::<Cluster>(resource)?;
                same(name, &message.name)?;
                self.store
                    .lock()
                    .put_cluster(&message)
                    .map_err(|refusal| refusal.to_string())
            }
            ROUTE_TYPE => {
                let message = decode::<RouteConfiguration>(resource)?;
                same(name, &message.name)?;
                self.store
                    .lock()
                    .put_routes(&message)
                    .map_err(|refusal| refusal.to_string())
            }
            ENDPOINT_TYPE => {
                let message = decode::<ClusterLoadAssignment>(resource)?;
                same(name, &message.cluster_name)?;
                self.store
                    .lock()
                    .put_endpoints(&message)
                    .map_err(|refusal| refusal.to_string())
            }
            other => Err(format!("{other} is not served here")),
        }
    }

    fn remove(&mut self, type_url: &str, name: &str) {
        match type_url {
            LISTENER_TYPE if name == self.inbound => self.store.lock().remove_listener(),
            CLUSTER_TYPE => self.store.lock().remove_cluster(name),
            ROUTE_TYPE => self.store.lock().remove_routes(name),
            ENDPOINT_TYPE => self.store.lock().remove_endpoints(name),
            _ => {}
        }
    }
}

impl Resources for Subscriber {
    fn types(&self) -> Vec<ResourceType> {
        let kind = |url, mode, label| ResourceType { url, mode, label };
        vec![
            kind(CLUSTER_TYPE, Mode::Wildcard, "cluster"),
            kind(ENDPOINT_TYPE, Mode::OnDemand, "endpoint"),
            kind(LISTENER_TYPE, Mode::Wildcard, "listener"),
            kind(ROUTE_TYPE, Mode::OnDemand, "route"),
        ]
    }

    fn apply(&mut self, update: &Update<'_>) -> Vec<Rejection> {
        self.clusters_came |= update.type_url == CLUSTER_TYPE;
        for name in update.removed {
            self.remove(update.type_url, name);
        }
        let mut rejections = Vec::new();
        for resource in update.resources {
            if let Err(reason) = self.put(update.type_url, resource) {
                match update.type_url {
                    ROUTE_TYPE => self.store.lock().refuse_routes(&resource.name),
                    ENDPOINT_TYPE => self.store.lock().refuse_endpoints(&resource.name),
                    _ => {}
                }
                rejections.push(Rejection {
                    name: resource.name.clone(),
                    reason,
                });
            }
        }
        // A waypoint that nothing is behind yet is told of no listener at all.
        if update.type_url == LISTENER_TYPE && rejections.is_empty() {
            self.store.lock().expect_listener();
        }
        rejections
    }

    fn wanted(&self, type_url: &str, changed: &str) -> Option<BTreeSet<String>> {
        match (type_url, changed) {
            (ROUTE_TYPE, LISTENER_TYPE) => Some(self.store.lock().wanted_routes()),
            (ENDPOINT_TYPE, CLUSTER_TYPE) => Some(self.store.lock().wanted_endpoints()),
            _ => None,
        }
    }

    fn give_up(&mut self, type_url: &str, names: &BTreeSet<String>) {
        names.iter().for_each(|name| self.remove(type_url, name));
    }

    fn publish(&mut self) {
        self.store.lock().publish();
        let mut missing = self.store.lock().missing();
        if !self.clusters_came {
            missing.push("clusters".to_owned());
        }
        self.progress.set(missing);
    }
}

fn decode<M: Message + Name + Default>(resource: &Resource) -> Result<M, String> {
    let any = resource.resource.as_ref().ok_or("it is empty")?;
    M::decode(&*any.value).map_err(|error| format!("a {} that does not parse: {error}", M::NAME))
}

fn same(name: &str, inside: &str) -> Result<(), String> {
    match name == inside {
        true => Ok(()),
        false => Err(format!("the resource calls itself `{inside}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_later_does_not_take_a_waypoint_from_those_that_it_serves() {
        let subscriber = Subscriber::new(Arc::default(), "shop/wp");
        let progress = subscriber.progress();
        assert!(!progress.keeps_from_serving().is_empty(), "before anything came");
        progress.set(vec!["routes `a`".to_owned()]);
        assert_eq!(*progress.keeps_from_serving(), ["routes `a`"]);
        progress.set(Vec::new());
        progress.set(vec!["routes `b`".to_owned()]);
        assert_eq!(*progress.keeps_from_serving(), [""; 0]);
        assert_eq!(*progress.missing(), ["routes `b`"]);
    }
}
