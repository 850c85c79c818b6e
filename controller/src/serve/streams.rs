//! Which streams a change concerns: each is woken for what its client holds or asked for, and for nothing else.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use culvert_telemetry::prometheus::metrics::counter::Counter;
use culvert_telemetry::prometheus::metrics::gauge::Gauge;
use culvert_telemetry::prometheus::registry::Registry;
use culvert_xds::{Change, Index, Interest, StreamId};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// So many changes wait for a stream that does not come to look; with more, it looks at everything.
const WAITING: usize = 65_536;

/// How many interests are taken in while the table is locked.
const PORTION: usize = 512;

/// All open streams.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: AtomicU64,
    table: Mutex<Table>,
    woken: Counter,
    names: Gauge,
}

#[derive(Debug, Default)]
struct Table {
    index: Index,
    inboxes: HashMap<StreamId, Arc<Inbox>>,
}

/// What one stream has to look at.
#[derive(Debug, Default)]
struct Inbox {
    changes: Mutex<Waiting>,
    arrived: Notify,
}

/// Changes, each in the batch that it came with.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) changes: Vec<(Arc<[Change]>, usize)>,
    /// There were too many to keep.
    pub(super) all: bool,
}

/// One stream's place. Gone when dropped.
#[derive(Debug)]
pub(super) struct Place {
    id: StreamId,
    inbox: Arc<Inbox>,
    streams: Streams,
}

impl Streams {
    /// Registers the metrics.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let own = Self::default();
        let help = "Discovery streams woken, each once for a batch of changes that concerns it";
        registry.register("culvert_controller_xds_streams_woken", help, own.inner.woken.clone());
        let help = "Names and aliases that some node holds or asked for";
        registry.register("culvert_controller_xds_names", help, own.inner.names.clone());
        own
    }

    /// Wakes the streams which a batch of changes concerns. Called after the state that holds them was published.
    pub(crate) fn publish(&self, changes: &[Change]) {
        let batch: Arc<[Change]> = changes.into();
        let mut concerned: HashMap<StreamId, (Arc<Inbox>, Vec<usize>)> = HashMap::new();
        {
            let table = self.inner.table.lock();
            for (at, change) in batch.iter().enumerate() {
                for id in table.index.concerned(change) {
                    if let Some(inbox) = table.inboxes.get(&id) {
                        let entry = concerned.entry(id).or_insert_with(|| (Arc::clone(inbox), Vec::new()));
                        entry.1.push(at);
                    }
                }
            }
        }
        self.inner.woken.inc_by(concerned.len() as u64);
        for (inbox, places) in concerned.into_values() {
            let mut waiting = inbox.changes.lock();
            if waiting.changes.len() + places.len() > WAITING {
                waiting.all = true;
                waiting.changes.clear();
            } else if !waiting.all {
                let places = places.into_iter().map(|at| (Arc::clone(&batch), at));
                waiting.changes.extend(places);
            }
            drop(waiting);
            inbox.arrived.notify_one();
        }
    }

    /// A place for a new stream.
    pub(super) fn open(&self) -> Place {
        let id = StreamId(self.inner.next.fetch_add(1, Ordering::Relaxed));
        let inbox = Arc::new(Inbox::default());
        self.inner.table.lock().inboxes.insert(id, Arc::clone(&inbox));
        Place {
            id,
            inbox,
            streams: self.clone(),
        }
    }
}

impl Place {
    /// Takes note of what the stream's client is interested in now, or no longer.
    pub(super) fn apply(&self, interest: impl IntoIterator<Item = Interest>) {
        let mut interest = interest.into_iter().peekable();
        // In portions, so that a client that holds much does not keep changes from others.
        while interest.peek().is_some() {
            let mut table = self.streams.inner.table.lock();
            for interest in interest.by_ref().take(PORTION) {
                table.index.apply(self.id, interest);
            }
        }
        let table = self.streams.inner.table.lock();
        self.streams
            .inner
            .names
            .set(i64::try_from(table.index.names()).unwrap_or(i64::MAX));
    }

    /// Waits until there is something to look at.
    pub(super) async fn arrived(&self) {
        self.inbox.arrived.notified().await;
    }

    /// What there is to look at.
    pub(super) fn take(&self) -> Waiting {
        mem::take(&mut *self.inbox.changes.lock())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.inner.table.lock().inboxes.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use culvert_proto::ADDRESS_TYPE;
    use culvert_xds::Key;

    use super::*;

    fn change(name: &str) -> Change {
        Change {
            type_url: ADDRESS_TYPE,
            name: name.into(),
            keys: vec![name.into()],
        }
    }

    fn interest(name: &str) -> Interest {
        Interest {
            type_url: ADDRESS_TYPE,
            key: Key::Name(name.into()),
            wanted: true,
        }
    }

    #[tokio::test]
    async fn who_is_concerned_is_woken_once_for_a_batch_and_who_does_not_look_is_told_to_look_at_everything() {
        let streams = Streams::default();
        let (first, second) = (streams.open(), streams.open());
        first.apply([interest("a"), interest("b")]);
        second.apply([interest("c")]);
        streams.publish(&[change("a"), change("b"), change("x")]);
        assert_eq!(streams.inner.woken.get(), 1);
        first.arrived().await;
        let waiting = first.take();
        let names: Vec<&str> = waiting.changes.iter().map(|(batch, at)| &*batch[*at].name).collect();
        assert_eq!((names, waiting.all), (vec!["a", "b"], false));
        assert!(second.take().changes.is_empty());
        for _ in 0..=WAITING {
            streams.publish(&[change("c")]);
        }
        let waiting = second.take();
        assert!(waiting.all && waiting.changes.is_empty());
        drop((first, second));
        streams.publish(&[change("a")]);
        assert!(streams.inner.table.lock().inboxes.is_empty());
    }
}
