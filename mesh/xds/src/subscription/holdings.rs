//! What a client asked for and what it holds of one type, and so what it is interested in.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::Arc,
};

use crate::{Interest, Key};

/// What a client holds of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// Nothing yet: it is part of what was asked for.
    Nothing,
    /// It was sent.
    Digest(u64),
    /// It has it from an earlier connection: with these contents, or none that are known.
    Version(Option<u64>),
}

/// What a client asked for and what it holds. Whatever changes about that is noted as an interest.
#[derive(Debug)]
pub(super) struct Holdings {
    url: &'static str,
    wildcard: bool,
    /// Names and aliases asked for, and whether the client was told that there is nothing.
    asked: HashMap<Arc<str>, bool>,
    /// Resources that are subscribed, by whatever brought them: they are kept up to date until they are gone.
    held: HashMap<Arc<str>, Held>,
    missing: usize,
    interest: Vec<Interest>,
}

impl Holdings {
    /// Nothing yet, with room for so many resources.
    pub(super) fn new(url: &'static str, wildcard: bool, room: usize) -> Self {
        let mut new = Self {
            url,
            wildcard,
            asked: HashMap::new(),
            held: HashMap::with_capacity(room),
            missing: 0,
            interest: Vec::new(),
        };
        if wildcard {
            new.note(Key::All, true);
        }
        new
    }

    /// Whether the client asked for everything.
    pub(super) fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// How many names and aliases are asked for.
    pub(super) fn wanted(&self) -> usize {
        self.asked.len()
    }

    /// How many resources are held, or about to be.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// How many of the names asked for stand for nothing.
    pub(super) fn missing(&self) -> usize {
        self.missing
    }

    /// Whether this name was asked for.
    pub(super) fn asks(&self, name: &str) -> bool {
        self.asked.contains_key(name)
    }

    /// Whether this resource is held, or about to be.
    pub(super) fn holds(&self, name: &str) -> bool {
        self.held.contains_key(name)
    }

    /// What is held of a resource.
    pub(super) fn of(&self, name: &str) -> Option<Held> {
        self.held.get(name).copied()
    }

    /// The names asked for.
    pub(super) fn asked(&self) -> impl Iterator<Item = &Arc<str>> {
        self.asked.keys()
    }

    /// The resources that are held, or about to be.
    pub(super) fn held(&self) -> impl Iterator<Item = &Arc<str>> {
        self.held.keys()
    }

    /// A name is asked for, perhaps again.
    pub(super) fn ask(&mut self, name: &Arc<str>) {
        if self.asked.contains_key(name) {
            return;
        }
        if !self.held.contains_key(name) {
            self.note(Key::Name(Arc::clone(name)), true);
        }
        self.asked.insert(Arc::clone(name), false);
    }

    /// A name is no longer asked for; returns it, and whether it stood for nothing.
    pub(super) fn give_up(&mut self, name: &str) -> Option<(Arc<str>, bool)> {
        let (name, was_missing) = self.asked.remove_entry(name)?;
        self.missing -= usize::from(was_missing);
        if !self.held.contains_key(&name) {
            self.note(Key::Name(Arc::clone(&name)), false);
        }
        Some((name, was_missing))
    }

    /// Everything is asked for, or no longer. Whether that is news.
    pub(super) fn set_wildcard(&mut self, wildcard: bool) -> bool {
        if mem::replace(&mut self.wildcard, wildcard) == wildcard {
            return false;
        }
        let names: HashSet<&Arc<str>> = self.asked.keys().chain(self.held.keys()).collect();
        let keys: Vec<Key> = names.into_iter().cloned().map(Key::Name).collect();
        let url = self.url;
        let interest = |key, wanted| Interest {
            type_url: url,
            key,
            wanted,
        };
        self.interest.push(interest(Key::All, wildcard));
        self.interest
            .extend(keys.into_iter().map(|key| interest(key, !wildcard)));
        true
    }

    /// Notes whether a name that is asked for stands for nothing, and returns whether it did before; none if it is not asked
    /// for.
    pub(super) fn set_missing(&mut self, name: &str, is_missing: bool) -> Option<bool> {
        let missing = self.asked.get_mut(name)?;
        let was_missing = mem::replace(missing, is_missing);
        self.missing = self.missing + usize::from(is_missing) - usize::from(was_missing);
        Some(was_missing)
    }

    /// A resource is held, or about to be.
    pub(super) fn hold(&mut self, name: &Arc<str>, held: Held) {
        if let Some(known) = self.held.get_mut(name) {
            *known = held;
            return;
        }
        self.held.insert(Arc::clone(name), held);
        if !self.asked.contains_key(name) {
            self.note(Key::Name(Arc::clone(name)), true);
        }
    }

    /// A resource is no longer held; returns what was.
    pub(super) fn release(&mut self, name: &Arc<str>) -> Option<Held> {
        let held = self.held.remove(name)?;
        if !self.asked.contains_key(name) {
            self.note(Key::Name(Arc::clone(name)), false);
        }
        Some(held)
    }

    /// Since when it was asked last: what the client is interested in now, or no longer.
    pub(super) fn take_interest(&mut self) -> Vec<Interest> {
        mem::take(&mut self.interest)
    }

    /// Everything that the client was ever said to be interested in and still is.
    pub(super) fn all_interest(&self) -> impl Iterator<Item = Key> {
        let names = self.held.keys().filter(|name| !self.asked.contains_key(*name));
        let names = names.chain(self.asked.keys()).filter(|_| !self.wildcard);
        self.wildcard
            .then_some(Key::All)
            .into_iter()
            .chain(names.cloned().map(Key::Name))
    }

    fn note(&mut self, key: Key, wanted: bool) {
        // Under the wildcard names are of no interest.
        if self.wildcard && matches!(key, Key::Name(_)) {
            return;
        }
        self.interest.push(Interest {
            type_url: self.url,
            key,
            wanted,
        });
    }
}
