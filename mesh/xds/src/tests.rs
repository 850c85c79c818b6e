//! Clients and server streams talking to each other over nothing.

use std::{collections::BTreeMap, sync::Arc};

use culvert_proto::{
    ADDRESS_TYPE,
    discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node},
};
use proptest::prelude::*;

use crate::{
    client::{Client, Mode, Rejection},
    server::{Entry, Meaning, Resources, Stream},
};

/// Resources by name; an alias is `@name`, and `svc-N` brings every `pod-N-*`.
#[derive(Clone, Default)]
struct World(BTreeMap<String, Entry>);

impl World {
    fn set(&mut self, name: &str, content: u64) {
        let aliases: Arc<[String]> = Arc::new([format!("@{name}")]);
        let entry = Entry {
            version: content.to_string().into(),
            digest: content,
            body: Arc::from(*b"x"),
            aliases,
        };
        self.0.insert(name.to_owned(), entry);
    }

    fn with(names: &[&str]) -> Self {
        let mut world = Self::default();
        names.iter().for_each(|name| world.set(name, 1));
        world
    }
}

impl Resources for World {
    fn all<'a>(&'a self, type_url: &str) -> Option<Box<dyn Iterator<Item = (&'a str, &'a Entry)> + 'a>> {
        (type_url == ADDRESS_TYPE)
            .then(|| Box::new(self.0.iter().map(|(name, entry)| (name.as_str(), entry))) as Box<_>)
    }

    fn get(&self, _: &str, name: &str) -> Option<&Entry> {
        self.0.get(name)
    }

    fn expand(&self, _: &str, name: &str) -> Vec<String> {
        let name = name.trim_start_matches('@');
        if !self.0.contains_key(name) {
            return vec![];
        }
        let backends = name.strip_prefix("svc-").map(|id| format!("pod-{id}-"));
        let backend = |other: &&String| backends.as_ref().is_some_and(|prefix| other.starts_with(prefix));
        std::iter::once(name.to_owned())
            .chain(self.0.keys().filter(backend).cloned())
            .collect()
    }

    fn initial(&self, _: &str, node: &str) -> Vec<String> {
        self.0
            .keys()
            .filter(|name| !node.is_empty() && name.ends_with(node))
            .cloned()
            .collect()
    }
}

/// A client and its stream.
struct Pair {
    client: Client,
    stream: Stream,
    held: BTreeMap<String, String>,
}

impl Pair {
    fn new(mode: Mode, world: &World) -> Self {
        let client = Client::new(Node::default(), [(ADDRESS_TYPE, mode)]);
        let mut pair = Self {
            client,
            stream: Stream::new(),
            held: BTreeMap::new(),
        };
        pair.connect(world);
        pair
    }

    fn connect(&mut self, world: &World) {
        self.stream = Stream::new();
        self.stream.set_node("@here");
        for request in self.client.connect() {
            self.stream.receive(&request, world);
        }
    }

    /// Lets responses and acknowledgements flow until neither has anything to say.
    fn settle(&mut self, world: &World) -> Vec<DeltaDiscoveryResponse> {
        let mut seen = vec![];
        while let Some(response) = self.stream.next(world) {
            let held = &mut self.held;
            let ack = self.client.receive(&response, |update| {
                held.extend(
                    update
                        .resources
                        .iter()
                        .map(|resource| (resource.name.clone(), resource.version.clone())),
                );
                update.removed.iter().for_each(|name| drop(held.remove(name)));
                vec![]
            });
            assert_eq!(self.stream.receive(&ack.unwrap(), world), Meaning::Acknowledged);
            seen.push(response);
        }
        seen
    }

    fn ask(&mut self, name: &str, world: &World) -> Vec<DeltaDiscoveryResponse> {
        if let Some(request) = self.client.subscribe(ADDRESS_TYPE, [name.to_owned()]) {
            self.stream.receive(&request, world);
        }
        self.settle(world)
    }
}

fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response
        .resources
        .iter()
        .map(|resource| resource.name.as_str())
        .collect()
}

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
    world.set("b", 2);
    world.0.remove("a");
    let second = pair.settle(&world);
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
    world.set("pod-1-b", 1);
    assert_eq!(
        names(&pair.settle(&world)[0]),
        ["pod-1-b"],
        "a new workload of the service must follow by itself"
    );
    world.set("pod-2-a", 2);
    assert!(pair.settle(&world).is_empty(), "what nobody asked for must not be sent");
}

#[test]
fn an_unknown_name_is_answered_as_removed_and_sent_when_it_appears() {
    let mut world = World::default();
    let mut pair = Pair::new(Mode::OnDemand, &world);
    pair.settle(&world);
    assert_eq!(pair.ask("@late", &world)[0].removed_resources, ["@late"]);
    assert!(pair.settle(&world).is_empty(), "said once is enough");
    world.set("late", 1);
    assert_eq!(names(&pair.settle(&world)[0]), ["late"]);
    world.0.remove("late");
    let gone = pair.settle(&world);
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
    world.0.remove("c");
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
    world.set("bad", 2);
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
    world.0.remove("bad");
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
        world.set("a", content);
        assert!(
            pair.stream.next(&world).is_none(),
            "nothing may be sent before the acknowledgement"
        );
    }
    let ack = pair.client.receive(&first, |_| vec![]).unwrap();
    pair.stream.receive(&ack, &world);
    assert_eq!(pair.stream.next(&world).unwrap().resources[0].version, "99");
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

proptest! {
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
                0 => world.set(&name, content),
                1 => drop(world.0.remove(&name)),
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
            let all: BTreeMap<_, _> = world.0.iter().map(|(name, entry)| (name.clone(), entry.version.to_string())).collect();
            prop_assert_eq!(&everything.held, &all);
            let wanted: BTreeMap<_, _> = all.into_iter().filter(|(name, _)| asked.contains(name)).collect();
            prop_assert_eq!(&some.held, &wanted);
        }
    }
}
