//! Clients and server streams talking to each other over nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use culvert_proto::{
    ADDRESS_TYPE, AUTHORIZATION_TYPE,
    discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node},
};
use proptest::prelude::*;

use crate::{
    Change, Index, Key, StreamId,
    client::{Client, Mode, Rejection},
    naive,
    server::{Entry, Meaning, Named, Stream, Turn, TypeSpec, View},
};

const TYPES: [TypeSpec; 2] = [
    TypeSpec {
        url: AUTHORIZATION_TYPE,
        after: &[],
    },
    TypeSpec {
        url: ADDRESS_TYPE,
        after: &[AUTHORIZATION_TYPE],
    },
];

/// Addresses and policies by name; an alias is `@name`, and `svc-N` brings every `pod-N-*`. What ends in `@here` is on the
/// client's node.
#[derive(Clone, Default)]
struct World {
    addresses: BTreeMap<Arc<str>, Entry>,
    policies: BTreeMap<Arc<str>, Entry>,
}

fn entry(name: &str, content: u64) -> Entry {
    Entry {
        digest: content,
        body: Arc::from(*b"x"),
        aliases: Arc::new([format!("@{name}").into()]),
    }
}

impl World {
    fn set(&mut self, name: &str, content: u64) -> Change {
        self.addresses.insert(name.into(), entry(name, content));
        change(ADDRESS_TYPE, name)
    }

    fn remove(&mut self, name: &str) -> Change {
        self.addresses.remove(name);
        change(ADDRESS_TYPE, name)
    }

    fn set_policy(&mut self, name: &str, content: u64) -> Change {
        self.policies.insert(name.into(), entry(name, content));
        change(AUTHORIZATION_TYPE, name)
    }

    fn remove_policy(&mut self, name: &str) -> Change {
        self.policies.remove(name);
        change(AUTHORIZATION_TYPE, name)
    }

    fn with(names: &[&str]) -> Self {
        let mut world = Self::default();
        names.iter().for_each(|name| drop(world.set(name, 1)));
        world
    }

    fn of_type(&self, type_url: &str) -> &BTreeMap<Arc<str>, Entry> {
        match type_url {
            ADDRESS_TYPE => &self.addresses,
            _ => &self.policies,
        }
    }
}

fn keys(name: &str) -> Vec<Arc<str>> {
    let service = name.strip_prefix("pod-").and_then(|rest| rest.split_once('-'));
    let service = service.map(|(id, _)| format!("svc-{id}"));
    let names = service.into_iter().chain([name.to_owned()]);
    names
        .flat_map(|name| [format!("@{name}").into(), name.into()])
        .collect()
}

fn change(type_url: &'static str, name: &str) -> Change {
    Change {
        type_url,
        name: name.into(),
        keys: keys(name),
    }
}

impl View for World {
    fn types(&self) -> &'static [TypeSpec] {
        &TYPES
    }

    fn all<'a>(&'a self, type_url: &str) -> Named<'a> {
        Box::new(self.of_type(type_url).iter())
    }

    fn get(&self, type_url: &str, name: &str) -> Option<&Entry> {
        self.of_type(type_url).get(name)
    }

    fn expand(&self, type_url: &str, name: &str) -> Vec<Arc<str>> {
        let name = name.trim_start_matches('@');
        let all = self.of_type(type_url);
        if !all.contains_key(name) {
            return vec![];
        }
        let backends = name.strip_prefix("svc-").map(|id| format!("pod-{id}-"));
        let backend = |other: &&Arc<str>| backends.as_ref().is_some_and(|prefix| other.starts_with(prefix));
        std::iter::once(name.into())
            .chain(all.keys().filter(backend).cloned())
            .collect()
    }

    fn keys(&self, _: &str, name: &str) -> Vec<Arc<str>> {
        keys(name)
    }

    fn shared(&self, type_url: &str, name: &str) -> Option<Arc<str>> {
        self.of_type(type_url)
            .get_key_value(name)
            .map(|(name, _)| Arc::clone(name))
    }

    fn initial(&self, type_url: &str) -> Vec<Arc<str>> {
        self.of_type(type_url)
            .keys()
            .filter(|name| name.ends_with("@here"))
            .cloned()
            .collect()
    }
}

/// A stream of either kind.
trait Server {
    fn begin() -> Self;
    fn receive(&mut self, request: &DeltaDiscoveryRequest, world: &World) -> Meaning;
    fn touched(&mut self, change: &Change);
    fn next(&mut self, world: &World) -> Option<DeltaDiscoveryResponse>;
}

impl Server for Stream {
    fn begin() -> Self {
        Self::new()
    }

    fn receive(&mut self, request: &DeltaDiscoveryRequest, world: &World) -> Meaning {
        Stream::receive(self, request, world)
    }

    fn touched(&mut self, change: &Change) {
        self.touch(change);
    }

    fn next(&mut self, world: &World) -> Option<DeltaDiscoveryResponse> {
        // In turns of a few names, as on a busy machine.
        loop {
            match self.advance(world, 3) {
                Turn::More => {}
                Turn::Done => return None,
                Turn::Send(response) => return Some(response),
            }
        }
    }
}

impl Server for naive::Stream {
    fn begin() -> Self {
        Self::new()
    }

    fn receive(&mut self, request: &DeltaDiscoveryRequest, world: &World) -> Meaning {
        naive::Stream::receive(self, request, world)
    }

    fn touched(&mut self, _: &Change) {}

    fn next(&mut self, world: &World) -> Option<DeltaDiscoveryResponse> {
        naive::Stream::next(self, world)
    }
}

/// A client and its stream.
struct Pair<S = Stream> {
    client: Client,
    stream: S,
    held: BTreeMap<String, String>,
}

impl Pair {
    fn new(mode: Mode, world: &World) -> Self {
        Self::with_types([(ADDRESS_TYPE, mode)], world)
    }
}

impl<S: Server> Pair<S> {
    fn with_types(types: impl IntoIterator<Item = (&'static str, Mode)>, world: &World) -> Self {
        let mut pair = Self {
            client: Client::new(Node::default(), types),
            stream: S::begin(),
            held: BTreeMap::new(),
        };
        pair.connect(world);
        pair
    }

    fn connect(&mut self, world: &World) {
        self.stream = S::begin();
        for request in self.client.connect() {
            self.stream.receive(&request, world);
        }
    }

    /// The client takes a response in and acknowledges it.
    fn acknowledge(&mut self, response: &DeltaDiscoveryResponse, world: &World) {
        let held = &mut self.held;
        let ack = self.client.receive(response, |update| {
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
    }

    /// Lets responses and acknowledgements flow until neither has anything to say.
    fn settle(&mut self, world: &World) -> Vec<DeltaDiscoveryResponse> {
        let mut seen = vec![];
        while let Some(response) = self.stream.next(world) {
            self.acknowledge(&response, world);
            seen.push(response);
        }
        seen
    }

    /// The world has changed.
    fn after(&mut self, changes: &[Change], world: &World) -> Vec<DeltaDiscoveryResponse> {
        changes.iter().for_each(|change| self.stream.touched(change));
        self.settle(world)
    }

    fn ask(&mut self, name: &str, world: &World) -> Vec<DeltaDiscoveryResponse> {
        if let Some(request) = self.client.subscribe(ADDRESS_TYPE, [name.to_owned()]) {
            self.stream.receive(&request, world);
        }
        self.settle(world)
    }

    fn give_up(&mut self, name: &str, world: &World) -> Vec<DeltaDiscoveryResponse> {
        if let Some(request) = self.client.unsubscribe(ADDRESS_TYPE, [name.to_owned()]) {
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
    assert_eq!(names(&response), ["pod-1-7"]);
}

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
