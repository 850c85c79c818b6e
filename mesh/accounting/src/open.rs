//! The list of open connections, for people who look.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Instant, SystemTime},
};

use slab::Slab;

use crate::opening::Opening;

/// As many lists as there can be threads without two of them sharing one, within reason.
const LISTS: usize = 64;

/// One open connection.
#[derive(Debug)]
pub struct OpenConnection {
    opening: Opening,
    began: SystemTime,
    began_at: Instant,
    sent: AtomicU64,
    received: AtomicU64,
}

/// Each thread has a list of its own, so its lock is waited for only while somebody looks, and they look briefly.
#[derive(Debug)]
pub(super) struct OpenConnections {
    lists: Box<[Mutex<Slab<Arc<OpenConnection>>>]>,
}

/// Where in the lists a connection is.
#[derive(Debug)]
pub(super) struct Place {
    list: usize,
    key: usize,
}

impl OpenConnection {
    pub(super) fn new(opening: Opening) -> Self {
        Self {
            opening,
            began: SystemTime::now(),
            began_at: Instant::now(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    pub(super) fn count(&self, sent: u64, received: u64) {
        self.sent.fetch_add(sent, Ordering::Relaxed);
        self.received.fetch_add(received, Ordering::Relaxed);
    }

    /// How it began.
    pub fn opening(&self) -> &Opening {
        &self.opening
    }

    /// When it began.
    pub fn began(&self) -> SystemTime {
        self.began
    }

    /// For how long it has been open.
    pub fn age(&self) -> std::time::Duration {
        self.began_at.elapsed()
    }

    /// What the pod of this node sent and received, as of the last publication.
    pub fn bytes(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }
}

impl Default for OpenConnections {
    fn default() -> Self {
        Self {
            lists: (0..LISTS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl OpenConnections {
    pub(super) fn add(&self, connection: &Arc<OpenConnection>) -> Place {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static LIST: usize = THREADS.fetch_add(1, Ordering::Relaxed) % LISTS;
        }
        let list = LIST.with(|list| *list);
        let key = self.lock(list).insert(Arc::clone(connection));
        Place { list, key }
    }

    pub(super) fn remove(&self, place: &Place) {
        self.lock(place.list).try_remove(place.key);
    }

    pub(super) fn list(&self) -> Vec<Arc<OpenConnection>> {
        let copy = |list| {
            self.lock(list)
                .iter()
                .map(|(_, connection)| Arc::clone(connection))
                .collect::<Vec<_>>()
        };
        (0..LISTS).flat_map(copy).collect()
    }

    fn lock(&self, list: usize) -> MutexGuard<'_, Slab<Arc<OpenConnection>>> {
        self.lists[list].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
