//! Which tunnels are shared by whom, and who waits for one. No I/O: the caller dials, and asks what is next.
//!
//! Connections with the same key share tunnels: one tunnel for all connections of a pod to a workload was measured to be
//! cheaper than a tunnel each, for requests and for new connections. When a tunnel carries as many streams as its peer
//! allows, another one is dialled beside it.
//!
//! ```text
//! wait ──> next ──> Give(waiter, tunnel)   open a stream for it; ask again
//!               ──> Dial                   dial one more, `dialling`; ask again
//!               ──> Nothing                until `joined`, `left`, `failed`, or a stream has ended
//! ```

use std::{collections::VecDeque, hash::Hash};

use rustc_hash::FxHashMap;

use crate::arena::{Arena, Key};

/// Streams to expect of a tunnel that is still connecting; most peers allow so many.
const STREAMS: usize = 100;

/// Tunnels with one key that connect at the same time.
const CONNECTING: usize = 8;

/// Names a [`Pool`]'s group; a late one finds nothing.
pub type GroupKey = Key<GroupKind>;

/// Keeps [`GroupKey`] apart from other keys.
#[derive(Debug)]
pub enum GroupKind {}

/// The tunnels with one key, and who waits for one of them.
#[derive(Debug)]
struct Group<K, T, W> {
    key: K,
    open: Vec<T>,
    connecting: Vec<T>,
    waiting: VecDeque<W>,
}

/// All tunnels that are dialled. `K` is what those have in common who may share one, `T` names a tunnel, `W` who waits.
#[derive(Debug)]
pub struct Pool<K, T, W> {
    by_key: FxHashMap<K, GroupKey>,
    groups: Arena<Group<K, T, W>, GroupKind>,
}

/// What an open tunnel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// Another stream.
    Free,
    /// No stream at the moment: it carries as many as its peer allows, or is about to go.
    Full,
    /// No stream at all, though it carries none: its peer would not take one on another tunnel either.
    Never,
}

/// What is to be done for those who wait.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T, W> {
    /// Open a stream for this one on this tunnel.
    Give(W, T),
    /// Dial another tunnel, and say so by [`Pool::dialling`].
    Dial,
    /// Nothing for now.
    Nothing,
}

/// What is left of a group that was given up.
#[derive(Debug)]
pub struct Abandoned<T, W> {
    /// Open or connecting.
    pub tunnels: Vec<T>,
    /// In the order in which they came.
    pub waiting: VecDeque<W>,
}

impl<K, T, W> Default for Pool<K, T, W> {
    fn default() -> Self {
        Self {
            by_key: FxHashMap::default(),
            groups: Arena::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, T: Copy + PartialEq, W> Pool<K, T, W> {
    /// The key of a group, while there is one.
    pub fn key(&self, group: GroupKey) -> Option<&K> {
        self.groups.get(group).map(|group| &group.key)
    }

    /// Who waits longest in a group.
    pub fn first(&self, group: GroupKey) -> Option<&W> {
        self.groups.get(group)?.waiting.front()
    }

    /// All groups, for walks that change the pool on the way.
    pub fn groups(&self) -> Vec<GroupKey> {
        self.groups.keys()
    }

    /// Somebody wants a stream on a tunnel with this key.
    pub fn wait(&mut self, key: K, waiter: W) -> GroupKey {
        let group = match self.by_key.get(&key) {
            Some(group) => *group,
            None => {
                let group = self.groups.insert(Group {
                    key: key.clone(),
                    open: Vec::new(),
                    connecting: Vec::new(),
                    waiting: VecDeque::new(),
                });
                self.by_key.insert(key, group);
                group
            }
        };
        if let Some(group) = self.groups.get_mut(group) {
            group.waiting.push_back(waiter);
        }
        group
    }

    /// What is to be done for a group. `waits` says who still waits: the others are forgotten. A group that nobody uses is
    /// forgotten, too.
    pub fn next(&mut self, key: GroupKey, waits: impl Fn(&W) -> bool, capacity: impl Fn(T) -> Capacity) -> Next<T, W> {
        let Some(group) = self.groups.get_mut(key) else {
            return Next::Nothing;
        };
        while group.waiting.front().is_some_and(|waiter| !waits(waiter)) {
            group.waiting.pop_front();
        }
        if group.waiting.is_empty() {
            self.tidy(key);
            return Next::Nothing;
        }
        let mut pointless = false;
        for tunnel in &group.open {
            match capacity(*tunnel) {
                Capacity::Free => {
                    if let Some(waiter) = group.waiting.pop_front() {
                        return Next::Give(waiter, *tunnel);
                    }
                }
                Capacity::Full => {}
                Capacity::Never => pointless = true,
            }
        }
        let enough = group.connecting.len() * STREAMS >= group.waiting.len() || group.connecting.len() >= CONNECTING;
        if enough || pointless { Next::Nothing } else { Next::Dial }
    }

    /// A tunnel of this group is being dialled.
    pub fn dialling(&mut self, group: GroupKey, tunnel: T) {
        if let Some(group) = self.groups.get_mut(group) {
            group.connecting.push(tunnel);
        }
    }

    /// A tunnel is open, or may be used again. Returns whether the group is still there.
    pub fn joined(&mut self, group: GroupKey, tunnel: T) -> bool {
        let Some(group) = self.groups.get_mut(group) else {
            return false;
        };
        group.connecting.retain(|connecting| *connecting != tunnel);
        if !group.open.contains(&tunnel) {
            group.open.push(tunnel);
        }
        true
    }

    /// A tunnel is gone, or takes no more streams. Those who wait need another: ask for what is next.
    pub fn left(&mut self, group: GroupKey, tunnel: T) {
        if let Some(group) = self.groups.get_mut(group) {
            group.open.retain(|open| *open != tunnel);
            group.connecting.retain(|connecting| *connecting != tunnel);
        }
    }

    /// A tunnel could not be opened. Returns those who waited for it, unless another one may still serve them.
    pub fn failed(&mut self, key: GroupKey, tunnel: T) -> VecDeque<W> {
        self.left(key, tunnel);
        let Some(group) = self.groups.get_mut(key) else {
            return VecDeque::new();
        };
        let alone = group.connecting.is_empty() && group.open.is_empty();
        let waiting = if alone {
            std::mem::take(&mut group.waiting)
        } else {
            VecDeque::new()
        };
        self.tidy(key);
        waiting
    }

    /// Somebody no longer waits.
    pub fn withdraw(&mut self, waiter: &W)
    where
        W: PartialEq,
    {
        for (_, group) in self.groups.iter_mut() {
            group.waiting.retain(|waiting| waiting != waiter);
        }
    }

    /// Gives a group up: its destination is gone. A later one with this key begins anew.
    pub fn abandon(&mut self, key: GroupKey) -> Option<Abandoned<T, W>> {
        let group = self.groups.remove(key)?;
        self.by_key.remove(&group.key);
        let mut tunnels = group.open;
        tunnels.extend(group.connecting);
        Some(Abandoned {
            tunnels,
            waiting: group.waiting,
        })
    }

    fn tidy(&mut self, key: GroupKey) {
        let unused =
            |group: &Group<K, T, W>| group.open.is_empty() && group.connecting.is_empty() && group.waiting.is_empty();
        if self.groups.get(key).is_some_and(unused) {
            self.abandon(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Numbers = Pool<&'static str, u32, u32>;

    fn all(pool: &mut Numbers, group: GroupKey, capacity: impl Fn(u32) -> Capacity + Copy) -> Vec<Next<u32, u32>> {
        let mut all = Vec::new();
        let mut dialled = 1000;
        loop {
            match pool.next(group, |_| true, capacity) {
                Next::Nothing => return all,
                Next::Dial => {
                    pool.dialling(group, dialled);
                    dialled += 1;
                    all.push(Next::Dial);
                }
                given @ Next::Give(..) => all.push(given),
            }
        }
    }

    #[test]
    fn who_came_first_gets_the_first_stream_and_one_tunnel_is_dialled_for_many() {
        let mut pool = Numbers::default();
        let group = pool.wait("a", 1);
        for waiter in 2..=STREAMS as u32 {
            pool.wait("a", waiter);
        }
        assert_eq!(all(&mut pool, group, |_| Capacity::Full), [Next::Dial]);
        pool.wait("a", 101);
        assert_eq!(
            all(&mut pool, group, |_| Capacity::Full),
            [Next::Dial],
            "one more for the hundred-and-first"
        );
        assert!(pool.joined(group, 1000));
        assert_eq!(pool.next(group, |_| true, |_| Capacity::Free), Next::Give(1, 1000));
        assert_eq!(
            pool.next(group, |waiter| *waiter > 50, |_| Capacity::Free),
            Next::Give(51, 1000)
        );
    }

    #[test]
    fn a_crowd_does_not_dial_without_end() {
        let mut pool = Numbers::default();
        let group = pool.wait("a", 0);
        for waiter in 0..10_000 {
            pool.wait("a", waiter);
        }
        assert_eq!(all(&mut pool, group, |_| Capacity::Full).len(), CONNECTING);
    }

    #[test]
    fn a_peer_that_takes_no_stream_is_not_dialled_again_and_again() {
        let mut pool = Numbers::default();
        let group = pool.wait("a", 1);
        all(&mut pool, group, |_| Capacity::Full);
        pool.joined(group, 1000);
        assert_eq!(all(&mut pool, group, |_| Capacity::Never), []);
        assert_eq!(all(&mut pool, group, |_| Capacity::Full), [Next::Dial]);
    }

    #[test]
    fn those_who_wait_hear_of_a_failure_only_when_nothing_else_may_serve_them() {
        let mut pool = Numbers::default();
        let group = pool.wait("a", 1);
        pool.dialling(group, 7);
        pool.dialling(group, 8);
        assert!(pool.failed(group, 7).is_empty());
        assert_eq!(pool.failed(group, 8), [1]);
        assert_eq!(pool.key(group), None, "nobody uses it any more");
        let again = pool.wait("a", 2);
        assert_ne!(again, group, "what is late about the first finds nothing");
        assert!(!pool.joined(group, 9));
    }

    #[test]
    fn a_group_that_is_given_up_returns_all_it_had() {
        let mut pool = Numbers::default();
        let group = pool.wait("a", 1);
        pool.dialling(group, 7);
        pool.dialling(group, 8);
        pool.joined(group, 7);
        pool.wait("a", 2);
        pool.withdraw(&1);
        let left = pool.abandon(group).expect("it is there");
        assert_eq!((left.tunnels, left.waiting), (vec![7, 8], VecDeque::from([2])));
        assert!(pool.groups().is_empty());
    }
}
