//! Connections from which nobody has proved who they are: how many there may be, and for how long.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use culvert_telemetry::prometheus::{metrics::counter::Counter, metrics::gauge::Gauge, registry::Registry};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Source;

/// How long a client may take until a call of its has been accepted, the TLS handshake included. A review by the API server
/// may take ten seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many connections may be at that, in all and of one source.
const STRANGERS: usize = 1024;
const STRANGERS_OF_ONE_SOURCE: usize = 64;

/// A connection, as the calls on it see it. The default is one of which nothing is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connection {
    source: Source,
    stranger: Option<Arc<Stranger>>,
}

#[derive(Debug)]
struct Stranger {
    id: u64,
    is_known: AtomicBool,
    evicted: Notify,
    all: Strangers,
}

/// All connections on which no call was accepted yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strangers {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    table: Mutex<Table>,
    waiting: Gauge,
    closed: Counter,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// By age: the oldest first.
    open: BTreeMap<u64, (Option<IpAddr>, std::sync::Weak<Stranger>)>,
}

impl Strangers {
    /// Registers the metrics.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let own = Self::default();
        registry.register(
            "culvert_controller_connections_unauthenticated",
            "Connections to the port for configuration and certificates on which no call was accepted yet",
            own.inner.waiting.clone(),
        );
        registry.register(
            "culvert_controller_connections_closed",
            "Connections closed because no call on them was accepted in time, or because there were too many such",
            own.inner.closed.clone(),
        );
        own
    }

    /// A new connection. If there are too many, the oldest of the source that has most is closed.
    pub(crate) fn open(&self, peer: SocketAddr) -> Connection {
        let source = Source(Some(peer));
        // Programs on this machine are many and share an address.
        let address = source.address().filter(|address| !address.is_loopback());
        // Dropped after the lock is given back: the last one to let go of a connection takes it.
        let mut evicted = None;
        let mut table = self.inner.table.lock();
        let count = |table: &Table, of: Option<IpAddr>| table.open.values().filter(|(other, _)| *other == of).count();
        if address.is_some() && count(&table, address) >= STRANGERS_OF_ONE_SOURCE {
            evicted = table.evict(address);
        } else if table.open.len() >= STRANGERS {
            let mut by_source: BTreeMap<Option<IpAddr>, usize> = BTreeMap::new();
            for (source, _) in table.open.values() {
                *by_source.entry(*source).or_default() += 1;
            }
            if let Some((most, _)) = by_source.into_iter().max_by_key(|(_, count)| *count) {
                evicted = table.evict(most);
            }
        }
        let id = table.next;
        table.next += 1;
        let stranger = Arc::new(Stranger {
            id,
            is_known: AtomicBool::new(false),
            evicted: Notify::new(),
            all: self.clone(),
        });
        table.open.insert(id, (address, Arc::downgrade(&stranger)));
        drop(table);
        drop(evicted);
        self.inner.waiting.inc();
        Connection {
            source,
            stranger: Some(stranger),
        }
    }
}

impl Table {
    fn evict(&mut self, source: Option<IpAddr>) -> Option<Arc<Stranger>> {
        let (id, _) = self.open.iter().find(|(_, (other, _))| *other == source)?;
        let (_, stranger) = self.open.remove(&id.clone())?;
        let stranger = stranger.upgrade();
        if let Some(stranger) = &stranger {
            stranger.evicted.notify_one();
            stranger.all.inner.waiting.dec();
        }
        stranger
    }
}

impl Stranger {
    fn leave(&self) {
        if self.all.inner.table.lock().open.remove(&self.id).is_some() {
            self.all.inner.waiting.dec();
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Connection {
    /// Where it comes from.
    pub(crate) fn source(&self) -> Source {
        self.source
    }

    /// A call on it was accepted.
    pub(crate) fn authenticated(&self) {
        if let Some(stranger) = &self.stranger
            && !stranger.is_known.swap(true, Ordering::Relaxed)
        {
            stranger.leave();
        }
    }

    /// Whether a call on it was accepted.
    pub(crate) fn is_known(&self) -> bool {
        self.stranger
            .as_ref()
            .is_none_or(|stranger| stranger.is_known.load(Ordering::Relaxed))
    }

    /// Waits until the connection is to be closed because no call on it was accepted. Never ends once one was.
    pub(crate) async fn is_over(self) {
        let Some(stranger) = self.stranger else {
            return std::future::pending().await;
        };
        tokio::select! {
            () = tokio::time::sleep(PATIENCE) => {}
            () = stranger.evicted.notified() => {}
        }
        if stranger.is_known.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        stranger.all.inner.closed.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(source: u16, port: u16) -> SocketAddr {
        let [high, low] = source.to_be_bytes();
        ([198, 18, high, low], port).into()
    }

    async fn is_over(connection: &Connection) -> bool {
        let mut over = std::pin::pin!(connection.clone().is_over());
        let mut ended = false;
        tokio::select! {
            biased;
            () = &mut over => ended = true,
            () = tokio::task::yield_now() => {}
        }
        ended
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_say_who_it_is_is_closed_and_who_does_stays() {
        let strangers = Strangers::default();
        let (silent, known) = (strangers.open(peer(1, 1)), strangers.open(peer(1, 2)));
        known.authenticated();
        let (one, other) = (
            tokio::spawn(silent.clone().is_over()),
            tokio::spawn(known.clone().is_over()),
        );
        tokio::time::sleep(PATIENCE + Duration::from_secs(1)).await;
        assert!(one.is_finished() && !other.is_finished());
        drop((silent, known));
        other.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_with_most_connections_makes_room() {
        let strangers = Strangers::default();
        let first = strangers.open(peer(1, 1));
        let greedy: Vec<_> = (0..500).map(|port| strangers.open(peer(2, port))).collect();
        assert!(is_over(&greedy[0]).await && !is_over(&greedy[499]).await);
        assert!(!is_over(&first).await);
        // As many from everywhere.
        let many: Vec<_> = (0..2000).map(|source| strangers.open(peer(1000 + source, 1))).collect();
        assert!(strangers.inner.table.lock().open.len() <= STRANGERS);
        assert!(!is_over(&many[1999]).await, "the newest stays");
        drop((greedy, many, first));
        assert!(strangers.inner.table.lock().open.is_empty());
    }
}
