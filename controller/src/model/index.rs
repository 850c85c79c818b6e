//! What depends on what. Objects are filed under their keys; a unit of derivation reads objects by key; who has read under
//! a key is derived again when an object comes under it, changes, or goes.

use std::collections::{HashMap, HashSet};

use culvert_objects::{Key, Kind, Object, ObjectName};

use super::unit::Unit;

/// Objects by key.
#[derive(Debug, Default)]
pub(super) struct Index {
    filed: HashMap<Key, Vec<(Kind, ObjectName)>>,
}

impl Index {
    /// Files an object under its keys and returns these.
    pub(super) fn file(&mut self, name: &ObjectName, object: &Object) -> Vec<Key> {
        let keys = object.keys(name);
        for key in &keys {
            let filed = self.filed.entry(*key).or_default();
            filed.push((object.kind(), name.clone()));
        }
        keys
    }

    /// Takes an object out and returns the keys that it was under.
    pub(super) fn unfile(&mut self, name: &ObjectName, object: &Object) -> Vec<Key> {
        let keys = object.keys(name);
        for key in &keys {
            let Some(filed) = self.filed.get_mut(key) else { continue };
            filed.retain(|(kind, other)| *kind != object.kind() || other != name);
            if filed.is_empty() {
                self.filed.remove(key);
            }
        }
        keys
    }

    /// What is filed under a key: perhaps more than was meant, see [`Key`].
    pub(super) fn find(&self, key: Key) -> &[(Kind, ObjectName)] {
        self.filed.get(&key).map_or(&[], Vec::as_slice)
    }
}

/// Units by the keys that they have read.
#[derive(Debug, Default)]
pub(super) struct Readers {
    ids: HashMap<Unit, u32>,
    units: Vec<Option<(Unit, Box<[Key]>)>>,
    free: Vec<u32>,
    by_key: HashMap<Key, Ids>,
}

/// Most keys are read by one unit, some by thousands.
#[derive(Debug)]
enum Ids {
    One(u32),
    Many(HashSet<u32>),
}

impl Readers {
    /// Notes all that a unit has read, in the place of what it read before.
    pub(super) fn set(&mut self, unit: &Unit, mut keys: Vec<Key>) {
        keys.sort_unstable();
        keys.dedup();
        let id = match self.ids.get(unit) {
            Some(id) => *id,
            None => self.enter(unit),
        };
        let Some(Some((_, before))) = self.units.get_mut(id as usize) else {
            return;
        };
        if **before == *keys {
            return;
        }
        let before = std::mem::replace(before, keys.clone().into());
        for key in before.iter().filter(|key| keys.binary_search(key).is_err()) {
            leave(&mut self.by_key, *key, id);
        }
        for key in keys.iter().filter(|key| before.binary_search(key).is_err()) {
            join(&mut self.by_key, *key, id);
        }
    }

    /// Forgets a unit.
    pub(super) fn remove(&mut self, unit: &Unit) {
        let Some(id) = self.ids.remove(unit) else { return };
        let slot = self.units.get_mut(id as usize).and_then(Option::take);
        for key in slot.iter().flat_map(|(_, keys)| keys.iter()) {
            leave(&mut self.by_key, *key, id);
        }
        self.free.push(id);
    }

    /// Who has read under a key.
    pub(super) fn of(&self, key: Key) -> impl Iterator<Item = &Unit> {
        let (one, many) = match self.by_key.get(&key) {
            None => (None, None),
            Some(Ids::One(id)) => (Some(id), None),
            Some(Ids::Many(ids)) => (None, Some(ids)),
        };
        let ids = one.into_iter().chain(many.into_iter().flatten());
        ids.filter_map(|id| self.units.get(*id as usize)?.as_ref().map(|(unit, _)| unit))
    }

    fn enter(&mut self, unit: &Unit) -> u32 {
        let slot = Some((unit.clone(), Box::default()));
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                self.units.push(None);
                u32::try_from(self.units.len() - 1).unwrap_or(u32::MAX)
            }
        };
        if let Some(place) = self.units.get_mut(id as usize) {
            *place = slot;
        }
        self.ids.insert(unit.clone(), id);
        id
    }
}

fn join(by_key: &mut HashMap<Key, Ids>, key: Key, id: u32) {
    match by_key.get_mut(&key) {
        None => drop(by_key.insert(key, Ids::One(id))),
        Some(Ids::Many(ids)) => drop(ids.insert(id)),
        Some(ids) => {
            if let Ids::One(one) = ids {
                *ids = Ids::Many(HashSet::from([*one, id]));
            }
        }
    }
}

fn leave(by_key: &mut HashMap<Key, Ids>, key: Key, id: u32) {
    let is_last = match by_key.get_mut(&key) {
        None => false,
        Some(Ids::One(one)) => *one == id,
        Some(Ids::Many(ids)) => {
            ids.remove(&id);
            ids.is_empty()
        }
    };
    if is_last {
        by_key.remove(&key);
    }
}
