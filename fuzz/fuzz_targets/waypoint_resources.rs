//! Envoy's resources as a controller may send them, well-formed or not, put and removed in any order. A resource that is refused
//! changes nothing that requests are decided by; what is missing is named.
#![no_main]

#[path = "../known.rs"]
mod known;

use std::sync::Arc;

use culvert_envoy::pb::envoy::config::{
    cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener, route::v3::RouteConfiguration,
};
use culvert_envoy::{CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE};
use culvert_waypoint::state::{Snapshot, Store};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|steps: Vec<(u8, &[u8])>| {
    let mut store = Store::default();
    for (kind, bytes) in steps {
        let before = published(&mut store);
        let edited = match bytes.split_first() {
            Some((&known::MARK, edits)) => known::edited(edits, |_| true),
            _ => None,
        };
        let (kind, bytes) = match &edited {
            Some(known) => (number(known.type_url), &*known.body),
            None => (kind, bytes),
        };
        let taken = match kind % 8 {
            0 => decode(bytes).map(|message: Listener| store.put_listener(&message).is_ok()),
            1 => decode(bytes).map(|message: Cluster| store.put_cluster(&message).is_ok()),
            2 => decode(bytes).map(|message: ClusterLoadAssignment| store.put_endpoints(&message).is_ok()),
            3 => decode(bytes).map(|message: RouteConfiguration| store.put_routes(&message).is_ok()),
            removed => {
                let name = String::from_utf8_lossy(bytes);
                match removed {
                    4 => store.remove_listener(),
                    5 => store.remove_cluster(&name),
                    6 => store.remove_endpoints(&name),
                    _ => store.remove_routes(&name),
                }
                Some(true)
            }
        };
        let after = published(&mut store);
        if taken != Some(true) {
            assert!(is_same(&before, &after), "a refused resource changed something");
        }
        let _ = store.missing();
    }
});

/// The step that puts a resource of this type.
fn number(type_url: &str) -> u8 {
    match type_url {
        LISTENER_TYPE => 0,
        CLUSTER_TYPE => 1,
        ENDPOINT_TYPE => 2,
        _ => 3,
    }
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Option<M> {
    M::decode(bytes).ok()
}

fn published(store: &mut Store) -> Arc<Snapshot> {
    store.publish();
    store.published().load_full()
}

/// Whether both decide by the very same parts.
fn is_same(before: &Snapshot, after: &Snapshot) -> bool {
    let chains = match (&before.chains, &after.chains) {
        (Some(before), Some(after)) => Arc::ptr_eq(before, after),
        (before, after) => before.is_none() && after.is_none(),
    };
    let routes = before.routes.len() == after.routes.len()
        && before
            .routes
            .iter()
            .all(|(name, routes)| after.routes.get(name).is_some_and(|other| Arc::ptr_eq(routes, other)));
    let clusters = before.clusters.len() == after.clusters.len()
        && before.clusters.iter().all(|(name, cluster)| {
            after
                .clusters
                .get(name)
                .is_some_and(|other| Arc::ptr_eq(cluster, other))
        });
    chains && routes && clusters
}
