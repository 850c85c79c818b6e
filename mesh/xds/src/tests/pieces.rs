//! A first answer that comes in several responses.

use std::collections::{BTreeMap, BTreeSet};

use culvert_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE, discovery::DeltaDiscoveryResponse};
use proptest::prelude::*;

use super::scene::{Pair, World, names};
use crate::{
    client::{Mode, Rejection},
    server::{Meaning, Stream},
};

const TYPES: [(&str, Mode); 2] = [(ADDRESS_TYPE, Mode::Wildcard), (AUTHORIZATION_TYPE, Mode::Wildcard)];

/// An address and five policies, of which two are a piece.
fn world() -> World {
    let mut world = World::with(&["a"]);
    for policy in ["p1", "p2", "p3", "p4", "p5"] {
        world.set_policy(policy, 1);
    }
    world
}

fn policies(responses: &[DeltaDiscoveryResponse]) -> Vec<usize> {
    let of_policies = responses
        .iter()
        .filter(|response| response.type_url == AUTHORIZATION_TYPE);
    of_policies.map(|response| response.resources.len()).collect()
}

#[test]
fn a_large_first_answer_comes_in_pieces_and_is_complete_before_what_refers_to_it() {
    let world = world();
    let mut pair = Pair::<Stream>::with_types(TYPES, &world);
    let mut seen = vec![];
    while let Some(response) = pair.stream.next(&world) {
        assert!(
            pair.stream.next(&world).is_none(),
            "a piece waits until the one before it is acknowledged"
        );
        pair.acknowledge(&response, &world);
        seen.push(response);
    }
    assert_eq!(policies(&seen), [2, 2, 1]);
    assert_eq!(pair.held.len(), 6);
    assert_eq!(seen.last().unwrap().type_url, ADDRESS_TYPE);
    let nonces: BTreeSet<&str> = seen.iter().map(|response| response.nonce.as_str()).collect();
    assert_eq!(nonces.len(), seen.len(), "each has a nonce of its own");
}

#[test]
fn what_changes_between_two_pieces_is_told_as_it_is_in_the_end() {
    let mut world = world();
    let mut pair = Pair::<Stream>::with_types(TYPES, &world);
    let first = pair.stream.next(&world).unwrap();
    let sent = names(&first)[0].to_owned();
    let unsent = ["p1", "p2", "p3", "p4", "p5"]
        .into_iter()
        .find(|name| !names(&first).contains(name));
    for touched in [
        world.set_policy(&sent, 2),
        world.set_policy("p6", 1),
        world.remove_policy(unsent.unwrap()),
    ] {
        pair.stream.touch(&touched);
    }
    pair.acknowledge(&first, &world);
    let rest = pair.settle(&world);
    assert_eq!(
        rest.last().unwrap().type_url,
        ADDRESS_TYPE,
        "what refers to policies comes last"
    );
    let held = |name: &str| pair.held.get(name).map(String::as_str);
    assert_eq!(held(&sent), Some(world.policies[&*sent].version().as_str()));
    assert!(held("p6").is_some() && held(unsent.unwrap()).is_none());
    assert_eq!(pair.held.len(), world.policies.len() + world.addresses.len());
}

#[test]
fn a_piece_that_is_refused_keeps_the_rest() {
    let mut world = world();
    let mut pair = Pair::<Stream>::with_types(TYPES, &world);
    let first = pair.stream.next(&world).unwrap();
    let bad = names(&first)[0].to_owned();
    let reject = vec![Rejection {
        name: bad.clone(),
        reason: "nonsense".into(),
    }];
    let nack = pair.client.receive(&first, |_| reject).unwrap();
    assert!(matches!(pair.stream.receive(&nack, &world), Meaning::Refused { .. }));
    let rest = pair.settle(&world);
    assert_eq!(policies(&rest), [2, 1]);
    assert_eq!(rest.last().unwrap().type_url, ADDRESS_TYPE);
    let mended = world.set_policy(&bad, 2);
    assert_eq!(names(&pair.after(&[mended], &world)[0]), [bad.as_str()]);
}

/// An old policy may have to go in the moment in which another one comes in its place.
#[test]
fn a_client_that_holds_something_is_told_of_everything_at_once() {
    let mut world = World::with(&["a"]);
    world.set_policy("old", 1);
    let mut pair = Pair::<Stream>::with_types(TYPES, &world);
    pair.settle(&world);
    world.remove_policy("old");
    for policy in ["p1", "p2", "p3", "p4", "p5"] {
        world.set_policy(policy, 1);
    }
    pair.connect(&world);
    let seen = pair.settle(&world);
    let responses: Vec<_> = seen.iter().filter(|response| !response.resources.is_empty()).collect();
    assert_eq!(responses[0].resources.len(), 5, "{seen:#?}");
    assert!(!pair.held.contains_key("old"));
    let all_change: Vec<_> = ["p1", "p2", "p3"].map(|policy| world.set_policy(policy, 2)).into();
    assert_eq!(
        policies(&pair.after(&all_change, &world)),
        [3],
        "and so are later changes"
    );
}

proptest! {
    /// Whatever changes while the pieces come, the client ends with the world, and no sooner has an address than all policies.
    #[test]
    fn a_first_answer_in_pieces_ends_with_the_world(steps in proptest::collection::vec((0u8..8, 0u64..4, 0u8..3), 0..30)) {
        let mut world = world();
        let mut pair = Pair::<Stream>::with_types(TYPES, &world);
        let check = |pair: &Pair, response: &DeltaDiscoveryResponse, world: &World| {
            let is_complete = world.policies.keys().all(|name| pair.held.contains_key(&**name));
            response.type_url == AUTHORIZATION_TYPE || is_complete
        };
        for (which, content, answers) in steps {
            let name = format!("p{which}");
            let touched = match content {
                0 => world.remove_policy(&name),
                content => world.set_policy(&name, content),
            };
            pair.stream.touch(&touched);
            for _ in 0..answers {
                let Some(response) = pair.stream.next(&world) else { break };
                prop_assert!(check(&pair, &response, &world), "{response:?}");
                pair.acknowledge(&response, &world);
            }
        }
        while let Some(response) = pair.stream.next(&world) {
            prop_assert!(check(&pair, &response, &world), "{response:?}");
            pair.acknowledge(&response, &world);
        }
        let all = world.addresses.iter().chain(&world.policies);
        let all: BTreeMap<_, _> = all.map(|(name, entry)| (name.to_string(), entry.version())).collect();
        prop_assert_eq!(&pair.held, &all);
    }
}
