//! A hash map whose copies are cheap and whose changes cost a fraction of its size.

use std::{
    borrow::Borrow,
    hash::{BuildHasher as _, Hash},
    sync::Arc,
};

use rustc_hash::{FxBuildHasher, FxHashMap};

/// Small meshes pay for empty shards with nothing: all of them are one allocation.
const SHARDS: usize = 64;

/// A map in shards that are copied when they change while a snapshot still uses them. Cloning copies 64 pointers; a
/// change in a map of 10,000 entries copies some 160 keys and values, which are reference counts here.
#[derive(Clone, Debug)]
pub(crate) struct CowMap<K, V> {
    shards: Box<[Arc<FxHashMap<K, V>>]>,
    len: usize,
}

impl<K: Clone + Eq + Hash, V: Clone> CowMap<K, V> {
    pub(crate) fn get<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards[shard(key)].get(key)
    }

    /// The value, ready to be changed; copied first if a snapshot has it.
    pub(crate) fn get_mut<Q: ?Sized + Eq + Hash>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let index = shard(key);
        self.shards[index].contains_key(key).then_some(())?;
        Arc::make_mut(&mut self.shards[index]).get_mut(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = Arc::make_mut(&mut self.shards[shard(&key)]).insert(key, value);
        self.len += usize::from(old.is_none());
        old
    }

    pub(crate) fn remove<Q: ?Sized + Eq + Hash>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let index = shard(key);
        self.shards[index].contains_key(key).then_some(())?;
        let old = Arc::make_mut(&mut self.shards[index]).remove(key);
        self.len -= usize::from(old.is_some());
        old
    }

    pub(crate) fn contains<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl<K, V> Default for CowMap<K, V> {
    fn default() -> Self {
        let empty = Arc::new(FxHashMap::default());
        Self {
            shards: (0..SHARDS).map(|_| Arc::clone(&empty)).collect(),
            len: 0,
        }
    }
}

/// The hash's low and high bits choose the slot within a shard, so the shard is chosen by bits between them.
fn shard<Q: ?Sized + Hash>(key: &Q) -> usize {
    (FxBuildHasher.hash_one(key) >> 40) as usize % SHARDS
}
