//! What is under way to a cluster, on all threads together.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use crate::{config::cluster::Breakers, counted::Counted, dialled::Dialled};

/// What is under way to a cluster.
#[derive(Debug, Default)]
pub struct ClusterLoad {
    connections: Arc<AtomicU32>,
    pending: Arc<AtomicU32>,
    requests: Arc<AtomicU32>,
    retries: Arc<AtomicU32>,
    /// Told whenever a connection ends, for those who wait until one more may be made.
    room: Arc<Notify>,
    /// Endpoints that clients dialled themselves.
    pub(crate) dialled: Dialled,
    /// Endpoints that are ejected.
    pub(crate) ejected: AtomicUsize,
    /// Until when some endpoint asks for less, in milliseconds of [`crate::endpoint::clock`].
    pub(crate) pushed_back: AtomicU64,
}

/// A connection, for as long as it is open or being made.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    counted: Option<Counted>,
    room: Arc<Notify>,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        drop(self.counted.take());
        self.room.notify_waiters();
    }
}

impl ClusterLoad {
    /// Another connection; none where there are too many. `is_first` makes it whatever there is: as with Envoy, each thread may have one
    /// to an endpoint, so that none waits for what others do.
    pub(crate) fn connection(&self, breakers: &Breakers, is_first: bool) -> Option<OpenConnection> {
        let counted = match is_first {
            true => Counted::new(&self.connections),
            false => Counted::within(&self.connections, breakers.connections)?,
        };
        Some(OpenConnection {
            counted: Some(counted),
            room: Arc::clone(&self.room),
        })
    }

    /// A request waits for a connection; none where too many do.
    pub(crate) fn pending(&self, breakers: &Breakers) -> Option<Counted> {
        Counted::within(&self.pending, breakers.pending)
    }

    /// A request is under way; none where there are too many.
    pub(crate) fn request(&self, breakers: &Breakers) -> Option<Counted> {
        Counted::within(&self.requests, breakers.requests)
    }

    /// Whether there is room for another retry.
    pub(crate) fn has_room_for_retry(&self, breakers: &Breakers) -> bool {
        breakers
            .retries
            .allows(self.requests(), self.retries.load(Ordering::Relaxed))
    }

    /// A retry is under way, or waits.
    pub(crate) fn retry(&self) -> Counted {
        Counted::new(&self.retries)
    }

    /// What is told whenever a connection ends.
    pub(crate) fn room(&self) -> &Notify {
        &self.room
    }

    /// Open connections.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Requests that wait for a connection.
    pub fn waiting(&self) -> u32 {
        self.pending.load(Ordering::Relaxed)
    }

    /// Requests that are under way.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }
}
