//! An ordered map whose copies share what they have in common.
//!
//! A copy costs nothing, a change as much as the way to its place, and two copies are compared in the time that their
//! difference takes. So a state of a large cluster can be handed on with every change of it.
//!
//! It is a treap (Seidel and Aragon, 1996) whose priorities follow from the keys: equal contents have equal shapes,
//! whatever order they were put in, which is what makes the comparison cheap.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Arc, LazyLock};

/// One for the process: priorities must be the same in every map, and nobody outside may choose them.
static PRIORITIES: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// A hash that is the same within this process, and that nobody outside can foresee.
pub(crate) fn hash_one(value: &impl Hash) -> u64 {
    PRIORITIES.hash_one(value)
}

/// An ordered map with cheap copies. See the module for how.
pub struct PersistentMap<K, V> {
    root: Link<K, V>,
    len: usize,
}

type Link<K, V> = Option<Arc<Node<K, V>>>;

#[derive(Clone)]
struct Node<K, V> {
    key: K,
    value: V,
    priority: u64,
    left: Link<K, V>,
    right: Link<K, V>,
}

impl<K, V> PersistentMap<K, V> {
    /// An empty map.
    pub const fn new() -> Self {
        Self { root: None, len: 0 }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Whether both are the same copy. Equal maps need not be.
    pub fn is_same(&self, other: &Self) -> bool {
        same_link(&self.root, &other.root)
    }

    /// The entries, in order of their keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        let mut iter = Iter { path: Vec::new() };
        iter.descend(&self.root);
        iter
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// The values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Ord, V> PersistentMap<K, V> {
    /// The value of `key`.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    /// The key that is held, which shares its text, and its value.
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let mut link = &self.root;
        while let Some(node) = link {
            link = match key.cmp(node.key.borrow()) {
                Ordering::Less => &node.left,
                Ordering::Greater => &node.right,
                Ordering::Equal => return Some((&node.key, &node.value)),
            };
        }
        None
    }

    /// Whether `key` is there.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// The entries from `first` on, in order.
    pub fn range_from<Q: Ord + ?Sized>(&self, first: &Q) -> Iter<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let mut path = Vec::new();
        let mut link = &self.root;
        while let Some(node) = link {
            if node.key.borrow() < first {
                link = &node.right;
            } else {
                path.push(&**node);
                link = &node.left;
            }
        }
        Iter { path }
    }
}

impl<K: Ord + Hash + Clone, V: Clone> PersistentMap<K, V> {
    /// Sets the value of `key` and returns the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let priority = hash_one(&key);
        let before = insert(&mut self.root, key, value, priority);
        self.len += usize::from(before.is_none());
        before
    }

    /// Takes `key` out and returns its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        // A key that is not there must not cost a copy of the way to it.
        self.get(key)?;
        let removed = remove(&mut self.root, key);
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// The value of `key`, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.get(key)?;
        let mut link = &mut self.root;
        loop {
            let node = Arc::make_mut(link.as_mut()?);
            link = match key.cmp(node.key.borrow()) {
                Ordering::Less => &mut node.left,
                Ordering::Greater => &mut node.right,
                Ordering::Equal => return Some(&mut node.value),
            };
        }
    }

    /// Calls `visit` with each key whose value is not the `same` in `self` and in `now`, in order, and with both values.
    pub fn diff<'a>(
        &'a self,
        now: &'a Self,
        same: impl Fn(&V, &V) -> bool,
        mut visit: impl FnMut(&K, Option<&V>, Option<&V>),
    ) {
        diff(&self.root, &now.root, &same, &mut visit);
    }
}

impl<K: Ord + Hash + Clone, T> PersistentMap<K, Arc<T>> {
    /// The keys whose object is another, gone or new, by pointer.
    pub fn changed(&self, now: &Self) -> Vec<K> {
        let mut found = Vec::new();
        self.diff(now, Arc::ptr_eq, |key, _, _| found.push(key.clone()));
        found
    }
}

fn same_link<K, V>(a: &Link<K, V>, b: &Link<K, V>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}

/// Whether the first comes before the second on every way from the root. Keys decide between equal priorities.
fn is_above<K: Ord>(a: (u64, &K), b: (u64, &K)) -> bool {
    a > b
}

fn insert<K: Ord + Clone, V: Clone>(link: &mut Link<K, V>, key: K, value: V, priority: u64) -> Option<V> {
    let Some(arc) = link else {
        *link = leaf(key, value, priority, None, None);
        return None;
    };
    let order = key.cmp(&arc.key);
    if order != Ordering::Equal && is_above((priority, &key), (arc.priority, &arc.key)) {
        let (left, right) = split(link.take(), &key);
        *link = leaf(key, value, priority, left, right);
        return None;
    }
    let node = Arc::make_mut(arc);
    match order {
        Ordering::Less => insert(&mut node.left, key, value, priority),
        Ordering::Greater => insert(&mut node.right, key, value, priority),
        Ordering::Equal => Some(std::mem::replace(&mut node.value, value)),
    }
}

fn leaf<K, V>(key: K, value: V, priority: u64, left: Link<K, V>, right: Link<K, V>) -> Link<K, V> {
    Some(Arc::new(Node {
        key,
        value,
        priority,
        left,
        right,
    }))
}

/// What is below `key`, and what is above it; `key` itself is not there.
fn split<K: Ord + Clone, V: Clone>(link: Link<K, V>, key: &K) -> (Link<K, V>, Link<K, V>) {
    let Some(mut arc) = link else { return (None, None) };
    let node = Arc::make_mut(&mut arc);
    if node.key < *key {
        let (left, right) = split(node.right.take(), key);
        node.right = left;
        (Some(arc), right)
    } else {
        let (left, right) = split(node.left.take(), key);
        node.left = right;
        (left, Some(arc))
    }
}

fn remove<K: Ord + Clone + Borrow<Q>, V: Clone, Q: Ord + ?Sized>(link: &mut Link<K, V>, key: &Q) -> Option<V> {
    let order = key.cmp(link.as_ref()?.key.borrow());
    if order == Ordering::Equal {
        let arc = link.take()?;
        let node = Arc::try_unwrap(arc).unwrap_or_else(|shared| Node::clone(&shared));
        *link = join(node.left, node.right);
        return Some(node.value);
    }
    let node = Arc::make_mut(link.as_mut()?);
    remove(
        if order == Ordering::Less {
            &mut node.left
        } else {
            &mut node.right
        },
        key,
    )
}

/// Both together; all keys of the first are below those of the second.
fn join<K: Ord + Clone, V: Clone>(left: Link<K, V>, right: Link<K, V>) -> Link<K, V> {
    let (mut a, mut b) = match (left, right) {
        (None, other) | (other, None) => return other,
        (Some(a), Some(b)) => (a, b),
    };
    if is_above((a.priority, &a.key), (b.priority, &b.key)) {
        let node = Arc::make_mut(&mut a);
        node.right = join(node.right.take(), Some(b));
        Some(a)
    } else {
        let node = Arc::make_mut(&mut b);
        node.left = join(Some(a), node.left.take());
        Some(b)
    }
}

fn diff<K: Ord + Clone, V: Clone>(
    before: &Link<K, V>,
    now: &Link<K, V>,
    same: &impl Fn(&V, &V) -> bool,
    visit: &mut impl FnMut(&K, Option<&V>, Option<&V>),
) {
    if same_link(before, now) {
        return;
    }
    match (before, now) {
        (None, None) => {}
        (Some(node), None) => {
            diff(&node.left, &None, same, visit);
            visit(&node.key, Some(&node.value), None);
            diff(&node.right, &None, same, visit);
        }
        (None, Some(node)) => {
            diff(&None, &node.left, same, visit);
            visit(&node.key, None, Some(&node.value));
            diff(&None, &node.right, same, visit);
        }
        (Some(a), Some(b)) if a.key == b.key => {
            diff(&a.left, &b.left, same, visit);
            if !same(&a.value, &b.value) {
                visit(&a.key, Some(&a.value), Some(&b.value));
            }
            diff(&a.right, &b.right, same, visit);
        }
        // The one that stands higher would stand as high on the other side, if it were there.
        (Some(a), Some(b)) if is_above((a.priority, &a.key), (b.priority, &b.key)) => {
            let (left, right) = split(now.clone(), &a.key);
            diff(&a.left, &left, same, visit);
            visit(&a.key, Some(&a.value), None);
            diff(&a.right, &right, same, visit);
        }
        (Some(_), Some(b)) => {
            let (left, right) = split(before.clone(), &b.key);
            diff(&left, &b.left, same, visit);
            visit(&b.key, None, Some(&b.value));
            diff(&right, &b.right, same, visit);
        }
    }
}

/// The entries of a map, in order.
pub struct Iter<'a, K, V> {
    path: Vec<&'a Node<K, V>>,
}

impl<'a, K, V> Iter<'a, K, V> {
    fn descend(&mut self, mut link: &'a Link<K, V>) {
        while let Some(node) = link {
            self.path.push(node);
            link = &node.left;
        }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        let node = self.path.pop()?;
        self.descend(&node.right);
        Some((&node.key, &node.value))
    }
}

impl<'a, K, V> IntoIterator for &'a PersistentMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Ord + Hash + Clone, V: Clone> FromIterator<(K, V)> for PersistentMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map
    }
}

impl<K: Ord + Hash + Clone, V: Clone> Extend<(K, V)> for PersistentMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K, V> Default for PersistentMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Clone for PersistentMap<K, V> {
    fn clone(&self) -> Self {
        Self {
            root: self.root.clone(),
            len: self.len,
        }
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for PersistentMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) || (self.len == other.len && self.iter().eq(other.iter()))
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for PersistentMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn apply(map: &mut PersistentMap<u16, u8>, plain: &mut BTreeMap<u16, u8>, steps: &[(u16, Option<u8>)]) {
        for (key, value) in steps {
            match value {
                Some(value) => assert_eq!(map.insert(*key, *value), plain.insert(*key, *value)),
                None => assert_eq!(map.remove(key), plain.remove(key)),
            }
        }
        assert_eq!(map.len(), plain.len());
        assert!(map.iter().eq(plain.iter()), "{map:?} {plain:?}");
    }

    proptest! {
        #[test]
        fn it_is_a_map_whose_copies_keep_what_they_were(
            first in proptest::collection::vec((0_u16..64, any::<Option<u8>>()), 0..80),
            second in proptest::collection::vec((0_u16..64, any::<Option<u8>>()), 0..20),
            from in 0_u16..70,
        ) {
            let (mut map, mut plain) = (PersistentMap::new(), BTreeMap::new());
            apply(&mut map, &mut plain, &first);
            let (copy, plain_copy) = (map.clone(), plain.clone());
            apply(&mut map, &mut plain, &second);
            prop_assert!(copy.iter().eq(plain_copy.iter()));
            prop_assert!(map.range_from(&from).eq(plain.range(from..)));
            let mut found = Vec::new();
            copy.diff(&map, PartialEq::eq, |key, a, b| found.push((*key, a.copied(), b.copied())));
            let keys: std::collections::BTreeSet<u16> = plain.keys().chain(plain_copy.keys()).copied().collect();
            let expected: Vec<_> = keys
                .into_iter()
                .map(|key| (key, plain_copy.get(&key).copied(), plain.get(&key).copied()))
                .filter(|(_, a, b)| a != b)
                .collect();
            prop_assert_eq!(found, expected);
        }
    }

    /// Cost follows the change: of a hundred thousand entries, those off the way to it are not looked at.
    #[test]
    fn a_small_difference_is_found_without_looking_at_the_rest() {
        let before: PersistentMap<u32, u32> = (0..100_000).map(|key| (key, 0)).collect();
        let mut now = before.clone();
        now.insert(50_000, 1);
        now.remove(&7);
        now.insert(200_000, 1);
        let looks = std::cell::Cell::new(0);
        let mut found = Vec::new();
        let same = |a: &u32, b: &u32| {
            looks.set(looks.get() + 1);
            a == b
        };
        before.diff(&now, same, |key, _, _| found.push(*key));
        assert_eq!(found, [7, 50_000, 200_000]);
        assert!(looks.get() < 300, "{} of 100,000 were looked at", looks.get());
    }
}
