//! A server stream that looks at everything each time, for the property tests: what it tells a client is right, however
//! slowly it comes to that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use culvert_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};

use crate::{
    WILDCARD,
    server::{Entry, Meaning, View},
};

/// What one client wants and was sent.
#[derive(Debug)]
pub(crate) struct Stream {
    nonce: u64,
    types: BTreeMap<String, TypeState>,
}

#[derive(Debug)]
struct TypeState {
    wildcard: bool,
    /// Asked for by name or alias.
    names: BTreeSet<String>,
    /// Expansions stay subscribed: what a service brought is kept up to date, also when it leaves the service.
    brought: BTreeSet<String>,
    /// Digest of what the client holds of each resource; `None` for what it reported by version alone, or what it was
    /// told does not exist.
    sent: BTreeMap<String, Sent>,
    /// Names to be answered in any case: just subscribed.
    fresh: BTreeSet<String>,
    /// The first response is sent even if it is empty, so that the client knows that there is nothing.
    answered: bool,
    awaiting: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    Digest(u64),
    Version(String),
    Missing,
}

impl Stream {
    /// A new connection.
    pub(crate) fn new() -> Self {
        Self {
            nonce: 0,
            types: BTreeMap::new(),
        }
    }

    /// Takes a client's message in.
    pub(crate) fn receive(&mut self, request: &DeltaDiscoveryRequest, resources: &impl View) -> Meaning {
        let type_url = request.type_url.as_str();
        if !resources.types().iter().any(|spec| spec.url == type_url) {
            return Meaning::UnknownType;
        }
        let mut meaning = Meaning::Stale;
        if let Some(state) = self.types.get_mut(type_url) {
            if !request.response_nonce.is_empty() {
                meaning = state.acknowledge(request);
            }
            if state.subscribe(type_url, request, resources, false) {
                meaning = Meaning::Subscribed;
            }
            return meaning;
        }
        let mut state = TypeState::begin(request);
        state.subscribe(type_url, request, resources, true);
        self.types.insert(type_url.to_owned(), state);
        Meaning::Subscribed
    }

    /// The next response that the client should get, if any: call after each [`receive`](Self::receive) and after each
    /// change, until it returns `None`.
    pub(crate) fn next(&mut self, resources: &impl View) -> Option<DeltaDiscoveryResponse> {
        for (type_url, state) in &mut self.types {
            if state.awaiting.is_some() {
                continue;
            }
            let Some(mut response) = state.difference(type_url, resources) else {
                continue;
            };
            self.nonce += 1;
            response.nonce = self.nonce.to_string();
            response.type_url.clone_from(type_url);
            state.awaiting = Some(response.nonce.clone());
            return Some(response);
        }
        None
    }
}

fn texts(names: impl IntoIterator<Item = Arc<str>>) -> impl Iterator<Item = String> {
    names.into_iter().map(|name| name.to_string())
}

impl Default for Stream {
    fn default() -> Self {
        Self::new()
    }
}

impl TypeState {
    fn begin(request: &DeltaDiscoveryRequest) -> Self {
        let sent = request
            .initial_resource_versions
            .iter()
            .map(|(name, version)| (name.clone(), Sent::Version(version.clone())))
            .collect();
        // A first request that names nothing is the legacy way of asking for everything.
        let wildcard = request.resource_names_subscribe.is_empty();
        Self {
            wildcard,
            names: BTreeSet::new(),
            brought: BTreeSet::new(),
            sent,
            fresh: BTreeSet::new(),
            answered: false,
            awaiting: None,
        }
    }

    fn acknowledge(&mut self, request: &DeltaDiscoveryRequest) -> Meaning {
        if self.awaiting.as_deref() != Some(&request.response_nonce) {
            return Meaning::Stale;
        }
        self.awaiting = None;
        match &request.error_detail {
            Some(error) => Meaning::Refused {
                reason: error.message.clone(),
            },
            None => Meaning::Acknowledged,
        }
    }

    /// Returns whether anything was subscribed or unsubscribed.
    fn subscribe(
        &mut self,
        type_url: &str,
        request: &DeltaDiscoveryRequest,
        resources: &impl View,
        first: bool,
    ) -> bool {
        for name in &request.resource_names_subscribe {
            if name == WILDCARD {
                self.wildcard = true;
            } else {
                self.names.insert(name.clone());
                self.fresh.insert(name.clone());
            }
        }
        for name in &request.resource_names_unsubscribe {
            if name == WILDCARD {
                self.wildcard = false;
            } else if self.names.remove(name) {
                self.fresh.remove(name);
                for resource in resources.expand(type_url, name) {
                    self.brought.remove(&*resource);
                    self.sent.remove(&*resource);
                }
                self.sent.remove(name);
            }
        }
        if first && !self.wildcard {
            self.brought.extend(texts(resources.initial(type_url)));
            // What the client kept from its last connection stays subscribed, whatever had brought it.
            self.brought.extend(self.sent.keys().cloned());
        }
        !request.resource_names_subscribe.is_empty() || !request.resource_names_unsubscribe.is_empty()
    }

    fn difference(&mut self, type_url: &str, resources: &impl View) -> Option<DeltaDiscoveryResponse> {
        let mut response = DeltaDiscoveryResponse::default();
        let fresh = std::mem::take(&mut self.fresh);
        let mut missing = BTreeSet::new();
        if !self.wildcard {
            for name in &self.names {
                let expanded = resources.expand(type_url, name);
                if expanded.is_empty() {
                    missing.insert(name.clone());
                }
                self.brought.extend(texts(expanded));
            }
        }
        // Names that just came are answered even if the client has what they stand for.
        for name in fresh.iter().filter(|_| !self.wildcard) {
            for resource in resources.expand(type_url, name) {
                if !matches!(self.sent.get(&*resource), Some(Sent::Version(_))) {
                    self.sent.remove(&*resource);
                }
            }
        }
        if self.wildcard {
            for (name, entry) in resources.all(type_url) {
                self.offer(type_url, name, entry, &mut response);
            }
        } else {
            for name in self.brought.clone() {
                if let Some(entry) = resources.get(type_url, &name) {
                    self.offer(type_url, &name, entry, &mut response);
                }
            }
        }
        let gone = |(name, sent): (&String, &Sent)| {
            (*sent != Sent::Missing && resources.get(type_url, name).is_none()).then(|| name.clone())
        };
        response.removed_resources = self.sent.iter().filter_map(gone).collect();
        for name in &response.removed_resources {
            self.sent.remove(name);
            self.brought.remove(name);
        }
        for name in missing {
            let told = self.sent.insert(name.clone(), Sent::Missing) == Some(Sent::Missing);
            if (!told || fresh.contains(&name)) && !response.removed_resources.contains(&name) {
                response.removed_resources.push(name);
            }
        }
        let first = !std::mem::replace(&mut self.answered, true);
        (first || !response.resources.is_empty() || !response.removed_resources.is_empty()).then_some(response)
    }

    fn offer(&mut self, type_url: &str, name: &str, entry: &Entry, response: &mut DeltaDiscoveryResponse) {
        let held = match self.sent.get(name) {
            Some(Sent::Digest(digest)) => *digest == entry.digest,
            Some(Sent::Version(version)) => *version == entry.version(),
            Some(Sent::Missing) | None => false,
        };
        self.sent.insert(name.to_owned(), Sent::Digest(entry.digest));
        if held {
            return;
        }
        for alias in entry.aliases.iter() {
            if self.sent.get(&**alias) == Some(&Sent::Missing) {
                self.sent.remove(&**alias);
            }
        }
        response.resources.push(Resource {
            name: name.to_owned(),
            version: entry.version(),
            aliases: if self.wildcard {
                vec![]
            } else {
                texts(entry.aliases.iter().cloned()).collect()
            },
            resource: Some(prost_types::Any {
                type_url: type_url.to_owned(),
                value: entry.body.to_vec(),
            }),
            ..Default::default()
        });
    }
}
