//! Which streams a change concerns: an index from resource names and aliases to streams.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use crate::Change;

/// Names a stream in an [`Index`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// What a stream's client may be interested in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Everything of the type.
    All,
    /// What has this name or alias.
    Name(Arc<str>),
}

/// A stream's client is interested in something, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interest {
    /// The type.
    pub type_url: &'static str,
    /// In what.
    pub key: Key,
    /// Whether it is.
    pub wanted: bool,
}

/// The interests of all streams.
#[derive(Debug, Default)]
pub struct Index {
    types: HashMap<&'static str, OfType>,
}

#[derive(Debug, Default)]
struct OfType {
    all: Vec<StreamId>,
    by_name: HashMap<Arc<str>, Vec<StreamId>>,
}

impl Index {
    /// Takes note of what a stream's client is interested in now, or no longer.
    pub fn apply(&mut self, id: StreamId, interest: Interest) {
        let of_type = self.types.entry(interest.type_url).or_default();
        match (interest.key, interest.wanted) {
            (Key::All, true) => insert(&mut of_type.all, id),
            (Key::All, false) => remove(&mut of_type.all, id),
            (Key::Name(name), true) => insert(of_type.by_name.entry(name).or_default(), id),
            (Key::Name(name), false) => {
                if let Entry::Occupied(mut streams) = of_type.by_name.entry(name) {
                    remove(streams.get_mut(), id);
                    if streams.get().is_empty() {
                        streams.remove();
                    }
                }
            }
        }
    }

    /// The streams whose clients hold or asked for one of a change's keys, each once.
    pub fn concerned(&self, change: &Change) -> Vec<StreamId> {
        let Some(of_type) = self.types.get(change.type_url) else {
            return Vec::new();
        };
        let names = change.keys.iter().chain([&change.name]);
        let by_name = names.filter_map(|name| of_type.by_name.get(name)).flatten();
        let mut found: Vec<StreamId> = of_type.all.iter().chain(by_name).copied().collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// How many names somebody is interested in.
    pub fn names(&self) -> usize {
        self.types.values().map(|of_type| of_type.by_name.len()).sum()
    }
}

fn insert(streams: &mut Vec<StreamId>, id: StreamId) {
    if !streams.contains(&id) {
        streams.push(id);
    }
}

fn remove(streams: &mut Vec<StreamId>, id: StreamId) {
    if let Some(at) = streams.iter().position(|other| *other == id) {
        streams.swap_remove(at);
    }
}
