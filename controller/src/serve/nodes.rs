//! Who is connected, and how far each has come: for the status page.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use serde_json::{Value, json};

/// All streams that are open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nodes {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: AtomicU64,
    streams: Mutex<BTreeMap<u64, Connected>>,
}

#[derive(Debug)]
struct Connected {
    node: String,
    peer: Option<SocketAddr>,
    since: SystemTime,
    client: String,
    types: BTreeMap<String, Progress>,
}

/// How far a client has come with one type.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Names or aliases asked for; none under the wildcard.
    pub(crate) wanted: usize,
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
    inner: Arc<Inner>,
}

impl Nodes {
    /// Notes a new stream.
    pub(crate) fn open(&self, node: &str, peer: Option<SocketAddr>) -> Guard {
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let since = SystemTime::now();
        let connected = Connected {
            node: node.to_owned(),
            peer,
            since,
            client: String::new(),
            types: BTreeMap::new(),
        };
        self.inner.streams.lock().insert(id, connected);
        Guard {
            id,
            inner: Arc::clone(&self.inner),
        }
    }

    /// All streams, for people and programs.
    pub(crate) fn describe(&self) -> Value {
        let streams = self.inner.streams.lock();
        let seconds = |time: SystemTime| time.elapsed().map_or(0, |d| d.as_secs());
        let types = |connected: &Connected| -> Value {
            let progress = |p: &Progress| {
                json!({
                    "wanted": p.wanted, "held": p.held, "sent": p.sent, "acknowledged": p.acknowledged,
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
                "node": c.node, "peer": c.peer.map(|p| p.to_string()), "client": c.client,
                "connected_seconds": seconds(c.since), "types": types(c),
            })
        };
        streams.values().map(stream).collect()
    }
}

impl Guard {
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
