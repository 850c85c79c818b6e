//! The list of open connections, for people who look.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use slab::Slab;

use crate::{lists::Lists, opening::Opening};

/// One open connection.
#[derive(Debug)]
pub struct OpenConnection {
    opening: Opening,
    began: SystemTime,
    began_at: Instant,
    sent: AtomicU64,
    received: AtomicU64,
}

/// Those of each thread.
#[derive(Debug, Default)]
pub(super) struct OpenConnections {
    lists: Lists<Slab<Arc<OpenConnection>>>,
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

impl OpenConnections {
    pub(super) fn add(&self, connection: &Arc<OpenConnection>) -> Place {
        let list = Lists::<Slab<Arc<OpenConnection>>>::number();
        let key = self.lists.numbered(list).insert(Arc::clone(connection));
        Place { list, key }
    }

    pub(super) fn remove(&self, place: &Place) {
        self.lists.numbered(place.list).try_remove(place.key);
    }

    pub(super) fn list(&self) -> Vec<Arc<OpenConnection>> {
        let copy = |list: &Mutex<Slab<Arc<OpenConnection>>>| {
            let open = crate::lists::lock(list);
            open.iter()
                .map(|(_, connection)| Arc::clone(connection))
                .collect::<Vec<_>>()
        };
        self.lists.all().flat_map(copy).collect()
    }
}
