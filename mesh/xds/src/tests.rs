//! Clients and server streams talking to each other over nothing.

mod following;
mod pieces;
mod properties;
mod scene;

use culvert_proto::{
    ADDRESS_TYPE, AUTHORIZATION_TYPE,
    discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node},
};

use scene::{Pair, World, names};

use crate::{
    Index, StreamId,
    client::{Client, Mode, Rejection},
    server::{Meaning, Stream, Turn},
};

#[test]
fn a_wildcard_client_gets_everything_once_and_then_only_changes() {
    let mut world = World::with(&["a", "b"]);
    let mut pair = Pair::new(Mode::Wildcard, &world);
    let first = pair.settle(&world);
    assert_eq!(first.len(), 1);
    assert_eq!(names(&first[0]), ["a", "b"]);
    assert!(
        first[0].resources[0].aliases.is_empty(),
        "the wildcard carries no aliases"
    );
    let changes = [world.set("b", 2), world.remove("a")];
    let second = pair.after(&changes, &world);
    assert_eq!(
        (names(&second[0]), second[0].removed_resources.as_slice()),
        (vec!["b"], &["a".to_owned()][..])
    );
    assert!(
        pair.settle(&world).is_empty(),
        "nothing changed, so nothing may be sent"
    );
}

#[test]
fn an_empty_world_is_answered_so_that_a_client_can_become_ready() {
    let mut pair = Pair::new(Mode::Wildcard, &World::default());
    assert_eq!(pair.settle(&World::default()).len(), 1);
}

#[test]
fn on_demand_begins_with_what_runs_on_the_clients_node() {
    let world = World::with(&["pod@here", "pod@there"]);
    let first = Pair::new(Mode::OnDemand, &world).settle(&world);
    assert_eq!(names(&first[0]), ["pod@here"]);
}

#[test]
fn asking_for_a_service_by_alias_brings_its_workloads_and_keeps_them_up_to_date() {
    let mut world = World::with(&["svc-1", "pod-1-a", "pod-2-a"]);
    let mut pair = Pair::new(Mode::OnDemand, &world);
    pair.settle(&world);
    let answer = pair.ask("@svc-1", &world);
    assert_eq!(names(&answer[0]), ["pod-1-a", "svc-1"]);
    assert_eq!(
        answer[0].resources[1].aliases,
        ["@svc-1"],
        "the client matches its question by the alias"
    );
    let changes = [world.set("pod-1-b", 1)];
    assert_eq!(
        names(&pair.after(&changes, &world)[0]),
        ["pod-1-b"],
        "a new workload of the service must follow by itself"
    );
    let changes = [world.set("pod-2-a", 2)];
    assert!(
        pair.after(&changes, &world).is_empty(),
        "what nobody asked for must not be sent"
    );
}

#[test]
fn an_unknown_name_is_answered_as_removed_and_sent_when_it_appears() {
    let mut world = World::default();
    let mut pair = Pair::new(Mode::OnDemand, &world);
    pair.settle(&world);
    assert_eq!(pair.ask("@late", &world)[0].removed_resources, ["@late"]);
    assert!(pair.settle(&world).is_empty(), "said once is enough");
    let changes = [world.set("late", 1)];
    assert_eq!(names(&pair.after(&changes, &world)[0]), ["late"]);
    let changes = [world.remove("late")];
    let gone = pair.after(&changes, &world);
    assert!(gone[0].removed_resources.contains(&"late".to_owned()), "{gone:?}");
}

#[test]
fn a_name_subscribed_again_is_answered_again() {
    let world = World::with(&["a"]);
    let mut pair = Pair::new(Mode::OnDemand, &world);
    pair.settle(&world);
    pair.ask("a", &world);
    let again = DeltaDiscoveryRequest {
        type_url: ADDRESS_TYPE.into(),
        resource_names_subscribe: vec!["a".into()],
        ..Default::default()
    };
    assert_eq!(pair.stream.receive(&again, &world), Meaning::Subscribed);
    assert_eq!(names(&pair.settle(&world)[0]), ["a"]);
}

#[test]
fn a_reconnect_costs_only_what_changed_meanwhile() {
    let mut world = World::with(&["a", "b", "c"]);
    let mut pair = Pair::new(Mode::Wildcard, &world);
    pair.settle(&world);
    world.set("b", 2);
    world.remove("c");
    pair.connect(&world);
    let responses = pair.settle(&world);
    assert_eq!(
        (names(&responses[0]), responses[0].removed_resources.as_slice()),
        (vec!["b"], &["c".to_owned()][..])
    );
}

#[test]
fn a_refused_resource_is_named_and_not_sent_again_unchanged_and_its_end_is_told_after_a_reconnect() {
    let mut world = World::with(&["bad", "good"]);
    let mut pair = Pair::new(Mode::Wildcard, &world);
    let response = pair.stream.next(&world).unwrap();
    let reject = vec![Rejection {
        name: "bad".into(),
        reason: "nonsense".into(),
    }];
    let nack = pair.client.receive(&response, |_| reject).unwrap();
    let reason = nack.error_detail.clone().unwrap().message;
    assert_eq!(reason, "bad: nonsense");
    assert_eq!(pair.stream.receive(&nack, &world), Meaning::Refused { reason });
    assert!(
        pair.stream.next(&world).is_none(),
        "the same content would be refused again"
    );
    let touched = world.set("bad", 2);
    pair.stream.touch(&touched);
    assert_eq!(names(&pair.stream.next(&world).unwrap()), ["bad"]);
    let claimed = &pair.client.connect()[0].initial_resource_versions;
    assert!(
        claimed["bad"].is_empty() && !claimed["good"].is_empty(),
        "no version of it is held: {claimed:?}"
    );
    pair.connect(&world);
    assert_eq!(
        names(&pair.stream.next(&world).unwrap()),
        ["bad"],
        "a client that understands it now gets it"
    );
    world.remove("bad");
    pair.connect(&world);
    assert_eq!(
        pair.stream.next(&world).unwrap().removed_resources,
        ["bad"],
        "or it would be refused for ever"
    );
}

#[test]
fn a_client_that_does_not_acknowledge_gets_one_response_however_much_changes() {
    let mut world = World::with(&["a"]);
    let mut pair = Pair::new(Mode::Wildcard, &world);
    let first = pair.stream.next(&world).unwrap();
    for content in 2..100 {
        let touched = world.set("a", content);
        pair.stream.touch(&touched);
        assert!(
            pair.stream.next(&world).is_none(),
            "nothing may be sent before the acknowledgement"
        );
    }
    let ack = pair.client.receive(&first, |_| vec![]).unwrap();
    pair.stream.receive(&ack, &world);
    assert_eq!(
        pair.stream.next(&world).unwrap().resources[0].version,
        format!("{:016x}", 99)
    );
}

#[test]
fn a_type_that_is_not_served_is_said_to_be_so() {
    let request = DeltaDiscoveryRequest {
        type_url: "nonsense".into(),
        ..Default::default()
    };
    assert_eq!(Stream::new().receive(&request, &World::default()), Meaning::UnknownType);
    let response = DeltaDiscoveryResponse {
        type_url: "nonsense".into(),
        ..Default::default()
    };
    Client::new(Node::default(), [])
        .receive(&response, |_| vec![])
        .unwrap_err();
}

#[test]
fn names_that_stand_for_nothing_are_told_once_and_forgotten_when_given_up() {
    let mut world = World::default();
    let mut pair = Pair::new(Mode::OnDemand, &world);
    pair.settle(&world);
    for number in 0..1000 {
        pair.ask(&format!("@no-{number}"), &world);
    }
    assert_eq!(
        (pair.stream.wanted(ADDRESS_TYPE), pair.stream.missing(ADDRESS_TYPE)),
        (1000, 1000)
    );
    // A change that concerns none of them leaves no work behind.
    let touched = world.set("other", 1);
    pair.stream.touch(&touched);
    assert!(matches!(pair.stream.advance(&world, 0), Turn::Done));
    let mut index = Index::default();
    let id = StreamId(1);
    pair.stream
        .take_interest()
        .into_iter()
        .for_each(|interest| index.apply(id, interest));
    assert_eq!(index.names(), 1000);
    for number in 0..1000 {
        assert!(pair.give_up(&format!("@no-{number}"), &world).is_empty());
    }
    pair.stream
        .take_interest()
        .into_iter()
        .for_each(|interest| index.apply(id, interest));
    assert_eq!(
        (pair.stream.wanted(ADDRESS_TYPE), pair.stream.missing(ADDRESS_TYPE)),
        (0, 0)
    );
    assert_eq!(index.names(), 0);
}

/// A policy is at the client before an address may refer to it, and goes when none refers to it any more.
#[test]
fn policies_come_before_addresses_and_go_after_them() {
    let types = [(ADDRESS_TYPE, Mode::Wildcard), (AUTHORIZATION_TYPE, Mode::Wildcard)];
    let mut world = World::with(&["a"]);
    world.set_policy("p", 1);
    let mut pair = Pair::<Stream>::with_types(types, &world);
    let first = pair.stream.next(&world).unwrap();
    assert_eq!(
        (first.type_url.as_str(), names(&first)),
        (AUTHORIZATION_TYPE, vec!["p"])
    );
    assert!(
        pair.stream.next(&world).is_none(),
        "addresses wait for the acknowledgement"
    );
    pair.acknowledge(&first, &world);
    let second = pair.stream.next(&world).unwrap();
    assert_eq!((second.type_url.as_str(), names(&second)), (ADDRESS_TYPE, vec!["a"]));
    pair.acknowledge(&second, &world);

    // A policy whose content changes holds nothing up.
    for touched in [world.set_policy("p", 2), world.set("a", 2)] {
        pair.stream.touch(&touched);
    }
    let (policy, address) = (pair.stream.next(&world).unwrap(), pair.stream.next(&world).unwrap());
    assert_eq!((names(&policy), names(&address)), (vec!["p"], vec!["a"]));
    pair.acknowledge(&address, &world);
    pair.acknowledge(&policy, &world);

    // The other way round when it goes.
    for touched in [world.remove_policy("p"), world.set("a", 3)] {
        pair.stream.touch(&touched);
    }
    let address = pair.stream.next(&world).unwrap();
    assert_eq!(names(&address), ["a"]);
    assert!(
        pair.stream.next(&world).is_none(),
        "the policy stays while an address may refer to it"
    );
    pair.acknowledge(&address, &world);
    let policy = pair.stream.next(&world).unwrap();
    assert_eq!(policy.removed_resources, ["p"]);
    pair.acknowledge(&policy, &world);
    assert!(pair.stream.next(&world).is_none());

    // One that comes back before its removal was sent is not removed.
    let touched = world.set_policy("q", 1);
    pair.after(&[touched], &world);
    for touched in [world.remove_policy("q"), world.set("a", 4)] {
        pair.stream.touch(&touched);
    }
    let address = pair.stream.next(&world).unwrap();
    let back = world.set_policy("q", 2);
    pair.stream.touch(&back);
    let policy = pair.stream.next(&world).unwrap();
    assert_eq!((names(&policy), policy.removed_resources.len()), (vec!["q"], 0));
    pair.acknowledge(&policy, &world);
    pair.acknowledge(&address, &world);
    assert!(pair.settle(&world).is_empty());
    assert!(pair.held.contains_key("q"));

    // Nor is one that comes back in the moment in which its removal may be sent.
    for touched in [world.remove_policy("q"), world.set("a", 5)] {
        pair.stream.touch(&touched);
    }
    let address = pair.stream.next(&world).unwrap();
    pair.acknowledge(&address, &world);
    let back = world.set_policy("q", 3);
    pair.after(&[back], &world);
    assert!(pair.held.contains_key("q"));
}

/// A service's workloads are many; one that changes must not cost what they all do.
#[test]
fn a_touched_workload_costs_its_own_names_and_not_its_services() {
    let mut world = World::with(&["svc-1"]);
    for number in 0..500 {
        world.set(&format!("pod-1-{number}"), 1);
    }
    let mut pair = Pair::new(Mode::OnDemand, &world);
    pair.settle(&world);
    pair.ask("@svc-1", &world);
    let touched = world.set("pod-1-7", 2);
    pair.stream.touch(&touched);
    // The workload, and the two names of its service by which it may have been asked for.
    let Turn::Send(response) = pair.stream.advance(&world, 4) else {
        panic!("more than the touched names were looked at")
    };
    assert_eq!(names(&response.into_message()), ["pod-1-7"]);
}
