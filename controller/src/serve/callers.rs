//! Who is connected, and how far each has come: for the status page.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::authority::{Caller, Source};

/// How many streams one caller may have: a proxy and its successor, and what is left of connections that broke. With one
/// more, the oldest is ended.
const STREAMS_OF_ONE_CALLER: usize = 8;

/// All streams that are open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Callers {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: AtomicU64,
    streams: Mutex<BTreeMap<u64, Connected>>,
}

#[derive(Debug)]
struct Connected {
    caller: Caller,
    source: Source,
    superseded: Arc<Notify>,
    since: SystemTime,
    client: String,
    types: BTreeMap<String, Progress>,
}

/// How far a client has come with one type.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Names or aliases asked for; none under the wildcard.
    pub(crate) wanted: usize,
    /// Of these, how many stand for nothing.
    pub(crate) missing: usize,
    /// Resources that the client holds.
    pub(crate) held: usize,
    /// Nonce of the last response.
    pub(crate) sent: String,
    /// Nonce of the last response that was accepted.
    pub(crate) acknowledged: String,
    /// How many responses were refused.
    pub(crate) refused: u64,
    /// The client's words at the last refusal.
    pub(crate) reason: Option<String>,
}

/// One open stream. Gone from the list when dropped.
#[derive(Debug)]
pub(crate) struct Guard {
    id: u64,
    superseded: Arc<Notify>,
    inner: Arc<Inner>,
}

impl Callers {
    /// Notes a new stream.
    pub(crate) fn open(&self, caller: &Caller, source: Source) -> Guard {
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let superseded = Arc::new(Notify::new());
        let connected = Connected {
            caller: caller.clone(),
            source,
            superseded: Arc::clone(&superseded),
            since: SystemTime::now(),
            client: String::new(),
            types: BTreeMap::new(),
        };
        let mut streams = self.inner.streams.lock();
        let own = || streams.values().filter(|other| other.caller == *caller);
        if let Some(oldest) = own().next().filter(|_| own().count() >= STREAMS_OF_ONE_CALLER) {
            oldest.superseded.notify_one();
        }
        streams.insert(id, connected);
        Guard {
            id,
            superseded,
            inner: Arc::clone(&self.inner),
        }
    }

    /// The streams of nodes, for people and programs.
    pub(crate) fn nodes(&self) -> Value {
        self.describe(|caller| caller.node().is_some())
    }

    /// The streams of workloads, for people and programs.
    pub(crate) fn workloads(&self) -> Value {
        self.describe(|caller| caller.node().is_none())
    }

    fn describe(&self, is_wanted: impl Fn(&Caller) -> bool) -> Value {
        let streams = self.inner.streams.lock();
        let seconds = |time: SystemTime| time.elapsed().map_or(0, |d| d.as_secs());
        let types = |connected: &Connected| -> Value {
            let progress = |p: &Progress| {
                json!({
                    "wanted": p.wanted, "missing": p.missing, "held": p.held, "sent": p.sent, "acknowledged": p.acknowledged,
                    "refused": p.refused, "reason": p.reason,
                })
            };
            let short = |url: &String| url.rsplit('/').next().unwrap_or(url).to_owned();
            connected
                .types
                .iter()
                .map(|(url, p)| (short(url), progress(p)))
                .collect()
        };
        let stream = |c: &Connected| {
            json!({
                "node": c.caller.node(), "caller": c.caller.to_string(), "peer": c.source.0.map(|p| p.to_string()),
                "client": c.client,
                "connected_seconds": seconds(c.since), "types": types(c),
            })
        };
        streams.values().filter(|c| is_wanted(&c.caller)).map(stream).collect()
    }
}

impl Guard {
    /// Waits until the caller has so many newer streams that this one is to end.
    pub(crate) async fn superseded(&self) {
        self.superseded.notified().await;
    }

    /// What the client calls itself.
    pub(crate) fn name(&self, client: &str) {
        if let Some(connected) = self.inner.streams.lock().get_mut(&self.id) {
            client.clone_into(&mut connected.client);
        }
    }

    /// Notes progress with a type.
    pub(crate) fn note(&self, type_url: &str, change: impl FnOnce(&mut Progress)) {
        if let Some(connected) = self.inner.streams.lock().get_mut(&self.id) {
            change(connected.types.entry(type_url.to_owned()).or_default());
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.inner.streams.lock().remove(&self.id);
    }
}
