//! What depends on what. Objects are filed under their keys; a unit of derivation reads objects by key; who has read under
//! a key is derived again when an object comes under it, changes, or goes.

use std::collections::{HashMap, HashSet};

use culvert_objects::{Few, Key, Kind, Object, ObjectName};

use super::unit::{Product, Unit};

/// Objects by key.
#[derive(Debug, Default)]
pub(super) struct Index {
    filed: HashMap<Key, Few<(Kind, ObjectName)>>,
}

impl Index {
    /// Files an object under its keys and returns these.
    pub(super) fn file(&mut self, name: &ObjectName, object: &Object) -> Vec<Key> {
        let keys = object.keys(name);
        for key in &keys {
            let new = (object.kind(), name.clone());
            match self.filed.get_mut(key) {
                None => drop(self.filed.insert(*key, Few::One(new))),
                Some(filed) => filed.push(new),
            }
        }
        keys
    }

    /// Takes an object out and returns the keys that it was under.
    pub(super) fn unfile(&mut self, name: &ObjectName, object: &Object) -> Vec<Key> {
        let keys = object.keys(name);
        for key in &keys {
            let Some(filed) = self.filed.get_mut(key) else { continue };
            if !filed.retain(|(kind, other)| *kind != object.kind() || other != name) {
                self.filed.remove(key);
            }
        }
        keys
    }

    /// What is filed under a key: perhaps more than was meant, see [`Key`].
    pub(super) fn find(&self, key: Key) -> &[(Kind, ObjectName)] {
        self.filed.get(&key).map_or(&[], Few::as_slice)
    }
}

/// Units by the keys that they have read, and what each was derived to.
#[derive(Debug, Default)]
pub(super) struct Units {
    ids: HashMap<Unit, u32>,
    known: Vec<Option<Known>>,
    free: Vec<u32>,
    readers: HashMap<Key, Readers>,
}

/// A unit that is derived.
#[derive(Debug)]
struct Known {
    unit: Unit,
    read: Box<[Key]>,
    product: Product,
}

/// Most keys are read by one unit, some by thousands.
#[expect(
    clippy::box_collection,
    reason = "a set without a box would make each of the many that have one reader three times as large"
)]
#[derive(Debug)]
enum Readers {
    One(u32),
    Many(Box<HashSet<u32>>),
}

impl Units {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Takes what the unit was derived to, to be replaced by [`Self::set`] or forgotten by [`Self::remove`].
    pub(super) fn take(&mut self, unit: &Unit) -> Product {
        let id = self.ids.get(unit).copied();
        let known = id.and_then(|id| self.known.get_mut(id as usize)?.as_mut());
        known
            .map(|known| std::mem::take(&mut known.product))
            .unwrap_or_default()
    }

    /// Notes all that a unit has read, and what it was derived to, in the place of what was noted before.
    pub(super) fn set(&mut self, unit: &Unit, mut keys: Vec<Key>, product: Product) {
        keys.sort_unstable();
        keys.dedup();
        let id = match self.ids.get(unit) {
            Some(id) => *id,
            None => self.enter(unit),
        };
        let Some(Some(known)) = self.known.get_mut(id as usize) else {
            return;
        };
        known.product = product;
        if *known.read == *keys {
            return;
        }
        let before = std::mem::replace(&mut known.read, keys.as_slice().into());
        for key in before.iter().filter(|key| keys.binary_search(key).is_err()) {
            leave(&mut self.readers, *key, id);
        }
        for key in keys.iter().filter(|key| before.binary_search(key).is_err()) {
            join(&mut self.readers, *key, id);
        }
    }

    /// Forgets a unit.
    pub(super) fn remove(&mut self, unit: &Unit) {
        let Some(id) = self.ids.remove(unit) else { return };
        let known = self.known.get_mut(id as usize).and_then(Option::take);
        for key in known.iter().flat_map(|known| known.read.iter()) {
            leave(&mut self.readers, *key, id);
        }
        self.free.push(id);
    }

    /// Who has read under a key.
    pub(super) fn readers(&self, key: Key) -> impl Iterator<Item = &Unit> {
        let (one, many) = match self.readers.get(&key) {
            None => (None, None),
            Some(Readers::One(id)) => (Some(id), None),
            Some(Readers::Many(ids)) => (None, Some(ids)),
        };
        let ids = one.into_iter().chain(many.into_iter().flat_map(|ids| ids.iter()));
        ids.filter_map(|id| Some(&self.known.get(*id as usize)?.as_ref()?.unit))
    }

    fn enter(&mut self, unit: &Unit) -> u32 {
        let new = Some(Known {
            unit: unit.clone(),
            read: Box::default(),
            product: Product::default(),
        });
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                self.known.push(None);
                u32::try_from(self.known.len() - 1).unwrap_or(u32::MAX)
            }
        };
        if let Some(place) = self.known.get_mut(id as usize) {
            *place = new;
        }
        self.ids.insert(unit.clone(), id);
        id
    }
}

fn join(readers: &mut HashMap<Key, Readers>, key: Key, id: u32) {
    match readers.get_mut(&key) {
        None => drop(readers.insert(key, Readers::One(id))),
        Some(Readers::Many(ids)) => drop(ids.insert(id)),
        Some(ids) => {
            if let Readers::One(one) = ids {
                *ids = Readers::Many(Box::new(HashSet::from([*one, id])));
            }
        }
    }
}

fn leave(readers: &mut HashMap<Key, Readers>, key: Key, id: u32) {
    let is_last = match readers.get_mut(&key) {
        None => false,
        Some(Readers::One(one)) => *one == id,
        Some(Readers::Many(ids)) => {
            ids.remove(&id);
            ids.is_empty()
        }
    };
    if is_last {
        readers.remove(&key);
    }
}
