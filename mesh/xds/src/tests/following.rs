//! What a client waits for after a resource comes after it: the endpoints of a cluster. Policies are the clusters here, and
//! addresses their endpoints.

use culvert_proto::{
    ADDRESS_TYPE, AUTHORIZATION_TYPE,
    discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
};
use proptest::prelude::*;

use super::scene::{Pair, World, names};
use crate::{
    client::Mode,
    server::{Meaning, Stream, TypeSpec},
};

const CLUSTERS: &str = AUTHORIZATION_TYPE;
const ENDPOINTS: &str = ADDRESS_TYPE;

static TYPES: [TypeSpec; 2] = [
    TypeSpec {
        url: CLUSTERS,
        after: &[],
        piece: None,
        followed_by: Some(ENDPOINTS),
    },
    TypeSpec {
        url: ENDPOINTS,
        after: &[],
        piece: None,
        followed_by: None,
    },
];

fn world() -> World {
    World {
        types: Some(&TYPES),
        ..World::default()
    }
}

fn pair(world: &World) -> Pair {
    Pair::with_types([(CLUSTERS, Mode::Wildcard), (ENDPOINTS, Mode::Wildcard)], world)
}

fn acknowledge(stream: &mut Stream, response: &DeltaDiscoveryResponse, world: &World) {
    let request = DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..Default::default()
    };
    assert_eq!(stream.receive(&request, world), Meaning::Acknowledged);
}

/// A cluster changes, and endpoints with it, as the controller has it.
fn change(world: &mut World, stream: &mut Stream, name: &str, content: u64) {
    for change in [world.set_policy(name, content), world.set(name, content)] {
        stream.touch(&change);
    }
}

#[test]
fn endpoints_follow_a_cluster_that_changes_again_before_its_acknowledgement() {
    let mut world = world();
    let mut pair = pair(&world);
    pair.settle(&world);
    change(&mut world, &mut pair.stream, "a", 1);
    let cluster = pair.stream.next(&world).unwrap();
    assert_eq!(cluster.type_url, CLUSTERS);
    // Envoy acknowledges a cluster when it has its endpoints: those do not wait for that.
    let endpoints = pair.stream.next(&world).unwrap();
    assert_eq!(endpoints.type_url, ENDPOINTS);
    acknowledge(&mut pair.stream, &endpoints, &world);
    change(&mut world, &mut pair.stream, "a", 2);
    let early = pair.stream.next(&world).unwrap();
    assert_eq!(early.type_url, ENDPOINTS);
    acknowledge(&mut pair.stream, &early, &world);
    acknowledge(&mut pair.stream, &cluster, &world);
    let cluster = pair.stream.next(&world).unwrap();
    assert_eq!((cluster.type_url.as_str(), names(&cluster)), (CLUSTERS, vec!["a"]));
    let endpoints = pair.stream.next(&world);
    let endpoints = endpoints.expect("the client waits for the endpoints of the cluster that it has just read");
    assert_eq!((endpoints.type_url.as_str(), names(&endpoints)), (ENDPOINTS, vec!["a"]));
    acknowledge(&mut pair.stream, &endpoints, &world);
    acknowledge(&mut pair.stream, &cluster, &world);
    assert!(pair.stream.next(&world).is_none(), "once is enough");
}

#[test]
fn endpoints_that_a_client_kept_follow_a_cluster_that_it_has_in_another_form() {
    let mut world = world();
    let mut pair = pair(&world);
    change(&mut world, &mut pair.stream, "a", 1);
    change(&mut world, &mut pair.stream, "b", 1);
    pair.settle(&world);
    // Endpoints may have come before a connection ended, and the cluster not.
    world.set_policy("a", 2);
    pair.connect(&world);
    let told = pair.settle(&world);
    let told: Vec<_> = told
        .iter()
        .map(|response| (response.type_url.as_str(), names(response)))
        .collect();
    assert_eq!(told, [(CLUSTERS, vec!["a"]), (ENDPOINTS, vec!["a"])]);
}

#[test]
fn endpoints_that_change_alone_bring_no_cluster() {
    let mut world = world();
    let mut pair = pair(&world);
    change(&mut world, &mut pair.stream, "a", 1);
    let told = pair.settle(&world);
    assert_eq!(told.len(), 2, "each is told once: {told:?}");
    let changes = [world.set("a", 2)];
    let told = pair.after(&changes, &world);
    assert_eq!((told.len(), told[0].type_url.as_str()), (1, ENDPOINTS));
}

#[derive(Clone, Debug)]
enum Step {
    Cluster(usize),
    Endpoints(usize),
    /// One response is written.
    Send,
    /// One of those that were written is acknowledged.
    Acknowledge(usize),
}

proptest! {
    /// Whatever changes while responses wait for their acknowledgements: the endpoints of a cluster come after it.
    #[test]
    fn the_endpoints_of_a_cluster_come_after_it_whatever_happens(
        steps in proptest::collection::vec(
            prop_oneof![
                (0usize..3).prop_map(Step::Cluster),
                (0usize..3).prop_map(Step::Endpoints),
                Just(Step::Send),
                (0usize..2).prop_map(Step::Acknowledge),
            ],
            1..40,
        ),
    ) {
        const NAMES: [&str; 3] = ["a", "b", "c"];
        let mut world = world();
        let mut pair = pair(&world);
        pair.settle(&world);
        let (mut told, mut waiting) = (Vec::new(), Vec::<DeltaDiscoveryResponse>::new());
        let mut content = 0;
        for step in steps.into_iter().chain([Step::Send, Step::Acknowledge(0)].into_iter().cycle().take(20)) {
            content += 1;
            match step {
                Step::Cluster(which) => change(&mut world, &mut pair.stream, NAMES[which], content),
                Step::Endpoints(which) if world.policies.contains_key(NAMES[which]) => {
                    let change = world.set(NAMES[which], content);
                    pair.stream.touch(&change);
                }
                Step::Send => {
                    if let Some(response) = pair.stream.next(&world) {
                        told.push(response.clone());
                        waiting.push(response);
                    }
                }
                Step::Acknowledge(which) if which < waiting.len() => {
                    acknowledge(&mut pair.stream, &waiting.remove(which), &world);
                }
                Step::Endpoints(_) | Step::Acknowledge(_) => {}
            }
        }
        prop_assert!(pair.stream.next(&world).is_none() && waiting.is_empty());
        let last = |url: &str, name: &str| told.iter().rposition(|response| response.type_url == url && names(response).contains(&name));
        for name in world.policies.keys() {
            prop_assert!(last(ENDPOINTS, name) > last(CLUSTERS, name), "{name}: {told:?}");
        }
    }
}
