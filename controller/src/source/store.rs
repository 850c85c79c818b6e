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

/// An event of one kind's list or watch.
#[derive(Debug)]
pub(crate) enum Change {
    /// A list of all objects of the kind begins.
    Begin(Kind),
    /// An object of the list.
    Listed(Item),
    /// The list is complete: what was not in it is gone.
    Complete(Kind),
    /// An object is new or different.
    Applied(Item),
    /// An object is gone.
    Deleted(Kind, ObjectName),
}

/// The objects that are held.
#[derive(Debug, Default)]
pub(crate) struct Store {
    assembly: Assembly,
    /// Objects that the list under way has not contained so far.
    unlisted: BTreeMap<Kind, BTreeSet<ObjectName>>,
    complete: BTreeSet<Kind>,
}

impl Store {
    /// Takes a change in. True if anything is different from before.
    pub(crate) fn take(&mut self, change: Change) -> bool {
        match change {
            Change::Begin(kind) => {
                self.unlisted.insert(kind, self.assembly.names(kind));
                false
            }
            Change::Listed(item) => {
                self.unlisted.entry(item.kind).or_default().remove(&item.name);
                self.apply(item)
            }
            Change::Complete(kind) => {
                let gone = self.unlisted.remove(&kind).unwrap_or_default();
                let first = self.complete.insert(kind);
                gone.iter()
                    .fold(first, |changed, name| self.assembly.remove(kind, name) || changed)
            }
            Change::Applied(item) => self.apply(item),
            Change::Deleted(kind, name) => self.assembly.remove(kind, &name),
        }
    }

    /// Whether every kind was listed once.
    pub(crate) fn is_complete(&self) -> bool {
        Kind::followed().all(|kind| self.complete.contains(&kind))
    }

    /// All objects that are in force, and what is wrong with those that cannot be.
    pub(crate) fn settle(&mut self) -> (&Objects, &Findings) {
        self.assembly.settle()
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
