//! The objects of the cluster as its kinds are listed and watched.

use std::collections::{BTreeMap, BTreeSet};

use culvert_objects::{Assembly, Findings, Kind, Object, ObjectName, Objects, Problem};

/// An object from the API server: read and pruned, or why it could not be read.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) kind: Kind,
    pub(crate) name: ObjectName,
    pub(crate) object: Result<Object, Problem>,
}

/// What is listed and watched as a whole: a kind, or the objects of one name where a kind is followed by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Part {
    pub(crate) kind: Kind,
    /// None stands for all names.
    pub(crate) name: Option<&'static str>,
}

impl Part {
    /// All that is followed.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Kind::ALL.iter().flat_map(|kind| Self::of(*kind))
    }

    /// The parts of a kind.
    fn of(kind: Kind) -> Vec<Self> {
        match kind.descriptor().names() {
            [] => vec![Self { kind, name: None }],
            names => names.iter().map(|name| Self { kind, name: Some(name) }).collect(),
        }
    }

    fn has(self, object: &ObjectName) -> bool {
        self.name.is_none_or(|name| *object.name == *name)
    }
}

/// An event of the list or watch of a part.
#[derive(Debug)]
pub(crate) enum Change {
    /// A list of all objects of the part begins.
    Begin(Part),
    /// An object of the list.
    Listed(Part, Item),
    /// The list is complete: what was not in it is gone.
    Complete(Part),
    /// An object is new or different.
    Applied(Item),
    /// An object is gone.
    Deleted(Kind, ObjectName),
    /// A ConfigMap that a policy names was looked at.
    Named(ObjectName, Option<Item>),
    /// No policy names a ConfigMap any more.
    Unnamed(ObjectName),
}

/// The objects that are held.
#[derive(Debug, Default)]
pub(crate) struct Store {
    assembly: Assembly,
    /// Objects that the list under way has not contained so far.
    unlisted: BTreeMap<Part, BTreeSet<ObjectName>>,
    complete: BTreeSet<Part>,
    /// ConfigMaps that policies name, and that were looked at.
    named: BTreeSet<ObjectName>,
}

impl Store {
    /// Takes a change in. True if anything is different from before.
    pub(crate) fn take(&mut self, change: Change) -> bool {
        match change {
            Change::Begin(part) => {
                let mut names = self.assembly.names(part.kind);
                names.retain(|name| part.has(name));
                self.unlisted.insert(part, names);
                false
            }
            Change::Listed(part, item) => {
                self.unlisted.entry(part).or_default().remove(&item.name);
                self.apply(item)
            }
            Change::Complete(part) => {
                let gone = self.unlisted.remove(&part).unwrap_or_default();
                let first = self.complete.insert(part);
                gone.iter()
                    .fold(first, |changed, name| self.assembly.remove(part.kind, name) || changed)
            }
            Change::Applied(item) => self.apply(item),
            Change::Deleted(kind, name) => self.assembly.remove(kind, &name),
            Change::Named(name, found) => {
                let is_first = self.named.insert(name.clone());
                let changed = match found {
                    Some(item) => self.apply(item),
                    None => self.assembly.remove(Kind::ConfigMap, &name),
                };
                changed || is_first
            }
            Change::Unnamed(name) => {
                self.named.remove(&name);
                self.assembly.remove(Kind::ConfigMap, &name)
            }
        }
    }

    /// Whether every kind was listed once.
    pub(crate) fn is_complete(&self) -> bool {
        Part::all().all(|part| self.complete.contains(&part))
    }

    /// Whether all of a kind was listed once.
    pub(crate) fn is_known(&self, kind: Kind) -> bool {
        Part::of(kind).iter().all(|part| self.complete.contains(part))
    }

    /// All objects that are in force, and what is wrong with those that cannot be.
    pub(crate) fn settle(&mut self) -> (&Objects, &Findings) {
        self.assembly.settle()
    }

    /// ConfigMaps that policies name, and that were looked at: they are there, or are not.
    pub(crate) fn named(&self) -> &BTreeSet<ObjectName> {
        &self.named
    }

    /// How many objects of a kind are held.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.assembly.held().count(kind)
    }

    /// About how many bytes they take.
    pub(crate) fn bytes(&self, kind: Kind) -> usize {
        self.assembly.bytes(kind)
    }

    fn apply(&mut self, item: Item) -> bool {
        match item.object {
            Ok(object) => self.assembly.apply(object),
            Err(problem) => self.assembly.refuse(item.kind, &item.name, problem),
        }
    }
}
