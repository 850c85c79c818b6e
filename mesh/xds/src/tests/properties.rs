//! What holds whatever happens in whatever order.

use std::collections::{BTreeMap, BTreeSet};

use culvert_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE, discovery::DeltaDiscoveryResponse};
use proptest::prelude::*;

use super::scene::{Pair, World};
use crate::{Change, Index, Key, StreamId, client::Mode, naive, server::Stream};

/// What a client and the naive server's client were told, after the same history.
#[derive(Clone, Debug)]
enum Step {
    Set(usize, u64),
    Remove(usize),
    SetPolicy(usize, u64),
    RemovePolicy(usize),
    Ask(usize, bool),
    GiveUp(usize, bool),
    Reconnect,
    /// The client is slow: changes gather.
    Gather(Vec<(usize, u64)>),
}

const NAMES: [&str; 8] = [
    "svc-1",
    "svc-2",
    "pod-1-a",
    "pod-1-b",
    "pod-2-a",
    "pod-3-a",
    "pod-1-c@here",
    "alone",
];

fn step() -> impl Strategy<Value = Step> {
    let which = 0..NAMES.len();
    prop_oneof![
        4 => (which.clone(), 1u64..4).prop_map(|(which, content)| Step::Set(which, content)),
        2 => which.clone().prop_map(Step::Remove),
        1 => (0usize..3, 1u64..4).prop_map(|(which, content)| Step::SetPolicy(which, content)),
        1 => (0usize..3).prop_map(Step::RemovePolicy),
        3 => (which.clone(), any::<bool>()).prop_map(|(which, alias)| Step::Ask(which, alias)),
        2 => (which.clone(), any::<bool>()).prop_map(|(which, alias)| Step::GiveUp(which, alias)),
        1 => Just(Step::Reconnect),
        1 => proptest::collection::vec((which, 0u64..4), 1..6).prop_map(Step::Gather),
    ]
}

fn called(which: usize, alias: bool) -> String {
    format!("{}{}", if alias { "@" } else { "" }, NAMES[which])
}

/// All resources and names that responses speak of, whatever their order and however many they are.
fn told(responses: &[DeltaDiscoveryResponse]) -> BTreeSet<(&str, &str, Option<&str>)> {
    let mut all = BTreeSet::new();
    for response in responses {
        let url = response.type_url.as_str();
        all.extend(
            response
                .resources
                .iter()
                .map(|r| (url, r.name.as_str(), Some(r.version.as_str()))),
        );
        all.extend(response.removed_resources.iter().map(|name| (url, name.as_str(), None)));
    }
    all
}

proptest! {
    /// Whatever happens in whatever order, clients are told what a server tells them that looks at everything each time,
    /// and no stream is woken that has nothing to do with a change, nor one left asleep that has.
    #[test]
    fn a_stream_tells_what_one_does_that_looks_at_everything(
        steps in proptest::collection::vec(step(), 1..40),
        mode in prop_oneof![Just(Mode::OnDemand), Just(Mode::Wildcard)],
    ) {
        let mut world = World::default();
        let types = [(ADDRESS_TYPE, mode), (AUTHORIZATION_TYPE, Mode::Wildcard)];
        let mut fast = Pair::<Stream>::with_types(types, &world);
        let mut slow = Pair::<naive::Stream>::with_types(types, &world);
        let (mut index, id) = (Index::default(), StreamId(7));
        fast.settle(&world);
        slow.settle(&world);
        for step in steps {
            for interest in fast.stream.take_interest() {
                index.apply(id, interest);
            }
            let mut changes = vec![];
            let pair = match step {
                Step::Set(which, content) => {
                    changes.push(world.set(NAMES[which], content));
                    None
                }
                Step::Remove(which) => {
                    changes.push(world.remove(NAMES[which]));
                    None
                }
                Step::SetPolicy(which, content) => {
                    changes.push(world.set_policy(NAMES[which], content));
                    None
                }
                Step::RemovePolicy(which) => {
                    changes.push(world.remove_policy(NAMES[which]));
                    None
                }
                Step::Ask(which, alias) => {
                    let name = called(which, alias);
                    Some((fast.ask(&name, &world), slow.ask(&name, &world)))
                }
                Step::GiveUp(which, alias) => {
                    let name = called(which, alias);
                    Some((fast.give_up(&name, &world), slow.give_up(&name, &world)))
                }
                Step::Reconnect => {
                    for interest in fast.stream.end() {
                        index.apply(id, interest);
                    }
                    prop_assert_eq!(index.names(), 0, "a stream that ends leaves nothing");
                    fast.connect(&world);
                    slow.connect(&world);
                    Some((fast.settle(&world), slow.settle(&world)))
                }
                Step::Gather(all) => {
                    for (which, content) in all {
                        changes.push(if content == 0 {
                            world.remove(NAMES[which])
                        } else {
                            world.set(NAMES[which], content)
                        });
                    }
                    None
                }
            };
            let (quick, careful) = match pair {
                Some(pair) => pair,
                None => {
                    let concerned: Vec<Change> = changes
                        .into_iter()
                        .filter(|change| index.concerned(change).contains(&id))
                        .collect();
                    (fast.after(&concerned, &world), slow.settle(&world))
                }
            };
            prop_assert_eq!(told(&quick), told(&careful));
            prop_assert_eq!(&fast.held, &slow.held);
        }
    }

    /// The index knows what the streams know.
    #[test]
    fn a_stream_that_ends_leaves_nothing_in_the_index(asked in proptest::collection::vec((0..NAMES.len(), any::<bool>()), 0..20)) {
        let world = World::with(&NAMES[..4]);
        let mut pair = Pair::new(Mode::OnDemand, &world);
        let mut index = Index::default();
        for (which, alias) in asked {
            pair.ask(&called(which, alias), &world);
        }
        for interest in pair.stream.take_interest() {
            index.apply(StreamId(1), interest);
        }
        for interest in pair.stream.end() {
            prop_assert!(interest.key != Key::All);
            index.apply(StreamId(1), interest);
        }
        prop_assert_eq!(index.names(), 0);
    }

    /// Whatever happens in whatever order, a wildcard client ends with the world, and an on-demand client with the part
    /// of it that it asked for.
    #[test]
    fn clients_converge(steps in proptest::collection::vec((0u8..4, 0u8..6, 1u64..4), 1..60)) {
        let mut world = World::default();
        let mut everything = Pair::new(Mode::Wildcard, &world);
        let mut some = Pair::new(Mode::OnDemand, &world);
        let mut asked = std::collections::BTreeSet::new();
        for (step, which, content) in steps {
            let name = format!("r{which}");
            match step {
                0 => {
                    let change = world.set(&name, content);
                    everything.stream.touch(&change);
                    some.stream.touch(&change);
                }
                1 => {
                    let change = world.remove(&name);
                    everything.stream.touch(&change);
                    some.stream.touch(&change);
                }
                2 => {
                    asked.insert(name.clone());
                    some.ask(&format!("@{name}"), &world);
                }
                _ => {
                    everything.connect(&world);
                    some.connect(&world);
                }
            }
            everything.settle(&world);
            some.settle(&world);
            let all: BTreeMap<_, _> = world.addresses.iter().map(|(name, entry)| (name.to_string(), entry.version())).collect();
            prop_assert_eq!(&everything.held, &all);
            let wanted: BTreeMap<_, _> = all.into_iter().filter(|(name, _)| asked.contains(name)).collect();
            prop_assert_eq!(&some.held, &wanted);
        }
    }
}
