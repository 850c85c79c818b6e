//! A world to serve, and a client with its stream.

use std::{collections::BTreeMap, sync::Arc};

use culvert_proto::{
    ADDRESS_TYPE, AUTHORIZATION_TYPE,
    discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node},
};

use crate::{
    Change,
    client::{Client, Mode},
    naive,
    server::{Entry, Meaning, Named, Stream, Turn, TypeSpec, View},
};

pub(super) const TYPES: [TypeSpec; 2] = [
    TypeSpec {
        url: AUTHORIZATION_TYPE,
        after: &[],
        // Two policies.
        piece: Some(2),
        followed_by: None,
    },
    TypeSpec {
        url: ADDRESS_TYPE,
        after: &[AUTHORIZATION_TYPE],
        piece: None,
        followed_by: None,
    },
];

/// Addresses and policies by name; an alias is `@name`, and `svc-N` brings every `pod-N-*`. What ends in `@here` is on the
/// client's node.
#[derive(Clone, Default)]
pub(super) struct World {
    pub(super) addresses: BTreeMap<Arc<str>, Entry>,
    pub(super) policies: BTreeMap<Arc<str>, Entry>,
    /// Other types than `TYPES`.
    pub(super) types: Option<&'static [TypeSpec]>,
}

pub(super) fn entry(name: &str, content: u64) -> Entry {
    Entry {
        digest: content,
        body: Arc::from(*b"x"),
        aliases: Arc::new([format!("@{name}").into()]),
    }
}

impl World {
    pub(super) fn set(&mut self, name: &str, content: u64) -> Change {
        self.addresses.insert(name.into(), entry(name, content));
        change(ADDRESS_TYPE, name)
    }

    pub(super) fn remove(&mut self, name: &str) -> Change {
        self.addresses.remove(name);
        change(ADDRESS_TYPE, name)
    }

    pub(super) fn set_policy(&mut self, name: &str, content: u64) -> Change {
        self.policies.insert(name.into(), entry(name, content));
        change(AUTHORIZATION_TYPE, name)
    }

    pub(super) fn remove_policy(&mut self, name: &str) -> Change {
        self.policies.remove(name);
        change(AUTHORIZATION_TYPE, name)
    }

    pub(super) fn with(names: &[&str]) -> Self {
        let mut world = Self::default();
        names.iter().for_each(|name| drop(world.set(name, 1)));
        world
    }

    pub(super) fn of_type(&self, type_url: &str) -> &BTreeMap<Arc<str>, Entry> {
        match type_url {
            ADDRESS_TYPE => &self.addresses,
            _ => &self.policies,
        }
    }
}

pub(super) fn keys(name: &str) -> Vec<Arc<str>> {
    let service = name.strip_prefix("pod-").and_then(|rest| rest.split_once('-'));
    let service = service.map(|(id, _)| format!("svc-{id}"));
    let names = service.into_iter().chain([name.to_owned()]);
    names
        .flat_map(|name| [format!("@{name}").into(), name.into()])
        .collect()
}

pub(super) fn change(type_url: &'static str, name: &str) -> Change {
    Change {
        type_url,
        name: name.into(),
        keys: keys(name),
    }
}

impl View for World {
    fn types(&self) -> &'static [TypeSpec] {
        self.types.unwrap_or(&TYPES)
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
pub(super) trait Server {
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
                Turn::Send(response) => return Some(response.into_message()),
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
pub(super) struct Pair<S = Stream> {
    pub(super) client: Client,
    pub(super) stream: S,
    pub(super) held: BTreeMap<String, String>,
}

impl Pair {
    pub(super) fn new(mode: Mode, world: &World) -> Self {
        Self::with_types([(ADDRESS_TYPE, mode)], world)
    }
}

impl<S: Server> Pair<S> {
    pub(super) fn with_types(types: impl IntoIterator<Item = (&'static str, Mode)>, world: &World) -> Self {
        let mut pair = Self {
            client: Client::new(Node::default(), types),
            stream: S::begin(),
            held: BTreeMap::new(),
        };
        pair.connect(world);
        pair
    }

    pub(super) fn connect(&mut self, world: &World) {
        self.stream = S::begin();
        for request in self.client.connect() {
            self.stream.receive(&request, world);
        }
    }

    /// The client takes a response in and acknowledges it.
    pub(super) fn acknowledge(&mut self, response: &DeltaDiscoveryResponse, world: &World) {
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
    pub(super) fn settle(&mut self, world: &World) -> Vec<DeltaDiscoveryResponse> {
        let mut seen = vec![];
        while let Some(response) = self.stream.next(world) {
            self.acknowledge(&response, world);
            seen.push(response);
        }
        seen
    }

    /// The world has changed.
    pub(super) fn after(&mut self, changes: &[Change], world: &World) -> Vec<DeltaDiscoveryResponse> {
        changes.iter().for_each(|change| self.stream.touched(change));
        self.settle(world)
    }

    pub(super) fn ask(&mut self, name: &str, world: &World) -> Vec<DeltaDiscoveryResponse> {
        if let Some(request) = self.client.subscribe(ADDRESS_TYPE, [name.to_owned()]) {
            self.stream.receive(&request, world);
        }
        self.settle(world)
    }

    pub(super) fn give_up(&mut self, name: &str, world: &World) -> Vec<DeltaDiscoveryResponse> {
        if let Some(request) = self.client.unsubscribe(ADDRESS_TYPE, [name.to_owned()]) {
            self.stream.receive(&request, world);
        }
        self.settle(world)
    }
}

pub(super) fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response
        .resources
        .iter()
        .map(|resource| resource.name.as_str())
        .collect()
}
