//! Kubernetes objects as users may write them, on their way to what a waypoint is told: whatever they say, the waypoint takes all of it.
//! One object that no proxy would take must not cost the others their changes.
#![no_main]

use std::sync::LazyLock;

use culvert_envoy::pb::envoy::config::{
    cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener, route::v3::RouteConfiguration,
};
use culvert_envoy::{CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE, names};
use culvert_resources::files::{self, File, World};
use culvert_resources::model::Settings;
use culvert_waypoint::state::Store;
use culvert_xds::server::Resources as _;
use libfuzzer_sys::fuzz_target;
use prost::Message;

/// A shop with a waypoint, and a bank without one: the objects of the recorded cases.
static BASE: LazyLock<String> = LazyLock::new(|| {
    include_str!("../../controller/tests/golden-l7/base.yaml").replace("istio-waypoint", "culvert-waypoint")
});

fuzz_target!(|text: &str| {
    let files = [("base.yaml", BASE.as_str()), ("case.yaml", text)].map(|(name, text)| File {
        name: name.to_owned(),
        text: text.to_owned(),
    });
    let model = World::of_files(&files::read(&files)).model(Settings::default());
    let mut store = Store::default();
    for (name, body) in of_type(&model, CLUSTER_TYPE) {
        if !names::is_plumbing(&name) && !name.ends_with("/inbound") {
            taken(&name, store.put_cluster(&decode::<Cluster>(&body)));
        }
    }
    for (name, body) in of_type(&model, ENDPOINT_TYPE) {
        taken(&name, store.put_endpoints(&decode::<ClusterLoadAssignment>(&body)));
    }
    for (name, body) in of_type(&model, LISTENER_TYPE) {
        if name.ends_with("/inbound") {
            taken(&name, store.put_listener(&decode::<Listener>(&body)));
        }
    }
    for (name, body) in of_type(&model, ROUTE_TYPE) {
        taken(&name, store.put_routes(&decode::<RouteConfiguration>(&body)));
    }
});

fn of_type(model: &culvert_resources::model::Model, type_url: &str) -> Vec<(String, Vec<u8>)> {
    let all = model.snapshot().all(type_url).into_iter().flatten();
    all.map(|(name, entry)| (name.to_string(), entry.body.to_vec()))
        .collect()
}

fn decode<M: Message + Default>(body: &[u8]) -> M {
    M::decode(body).expect("what the model encodes")
}

fn taken<E: std::fmt::Display>(name: &str, taken: Result<(), E>) {
    if let Err(refusal) = taken {
        panic!("{name} is refused: {refusal}");
    }
}
