//! Storage whose keys outlive what they name.
//!
//! Epoll reports an event for a connection that an earlier event of the same round has ended, timers fire for
//! connections that are gone, queues hold names of both. A [`Key`] carries the generation of its slot, so that a late
//! one finds nothing instead of the slot's next tenant.

use std::{
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
};

/// Values of one kind, found by [`Key`].
///
/// `Kind` keeps keys of different arenas apart. It need not be the value's own type, so that what holds keys of another
/// arena need not know what is in there.
#[derive(Debug)]
pub struct Arena<T, Kind = T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    kind: PhantomData<fn() -> Kind>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<Box<T>>,
}

/// The name of a value in an [`Arena`]; never names another value, until 2^24 tenants of one slot later.
pub struct Key<Kind> {
    index: u32,
    generation: u32,
    kind: PhantomData<fn() -> Kind>,
}

/// Generations wrap here, so that index and generation leave eight bits of a `u64` to whoever packs them into one.
const GENERATIONS: u32 = 1 << 24;

impl<T, Kind> Default for Arena<T, Kind> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, Kind> Arena<T, Kind> {
    /// Nothing in it.
    pub const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            kind: PhantomData,
        }
    }

    /// Takes a value in and names it.
    pub fn insert(&mut self, value: T) -> Key<Kind> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                value: None,
            });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.value = Some(Box::new(value));
        Key::new(index, slot.generation)
    }

    /// The value of that name, while it is there.
    pub fn get(&self, key: Key<Kind>) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation {
            slot.value.as_deref()
        } else {
            None
        }
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: Key<Kind>) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation {
            slot.value.as_deref_mut()
        } else {
            None
        }
    }

    /// Takes a value out. Its name finds nothing from now on.
    pub fn remove(&mut self, key: Key<Kind>) -> Option<Box<T>> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = (slot.generation + 1) % GENERATIONS;
        self.free.push(key.index);
        Some(value)
    }

    /// How many values are there.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether none is there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All values with their names, in no order that means anything.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key<Kind>, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(index, slot)| {
            let key = Key::new(index as u32, slot.generation);
            slot.value.as_deref_mut().map(|value| (key, value))
        })
    }

    /// The names of all values, for walks that change the arena on the way.
    pub fn keys(&self) -> Vec<Key<Kind>> {
        let live = self.slots.iter().enumerate().filter(|(_, slot)| slot.value.is_some());
        live.map(|(index, slot)| Key::new(index as u32, slot.generation))
            .collect()
    }
}

impl<Kind> Key<Kind> {
    /// A name made up of its parts: of one that was taken apart, or in tests.
    pub const fn new(index: u32, generation: u32) -> Self {
        Self {
            index,
            generation,
            kind: PhantomData,
        }
    }

    /// The slot.
    pub const fn index(self) -> u32 {
        self.index
    }

    /// Which of the slot's tenants; less than 2^24.
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

// By hand, because derives would ask the same of `Kind`.
impl<Kind> Clone for Key<Kind> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Kind> Copy for Key<Kind> {}

impl<Kind> fmt::Debug for Key<Kind> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

impl<Kind> PartialEq for Key<Kind> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && self.generation == other.generation
    }
}

impl<Kind> Eq for Key<Kind> {}

impl<Kind> Hash for Key<Kind> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.index, self.generation).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut arena: Arena<&str> = Arena::new();
        let first = arena.insert("first");
        assert_eq!(arena.remove(first).as_deref(), Some(&"first"));
        let second = arena.insert("second");
        assert_eq!(first.index(), second.index());
        assert_eq!(arena.get(first), None);
        assert!(arena.remove(first).is_none());
        assert_eq!(arena.get(second), Some(&"second"));
        assert_eq!(arena.len(), 1);
    }
}
