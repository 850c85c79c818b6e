//! Objects as JSON from within this process, read and assembled as those of an API server: for tests and benchmarks.

use std::sync::Arc;

use culvert_objects::{Kind, Loaded, ObjectName};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::follow::item;
use super::health::Health;
use super::kubernetes::{WAITING, collect};
use super::store::{Change, Part};

/// Sends objects.
#[derive(Debug)]
pub struct Feed {
    changes: mpsc::Sender<Change>,
}

/// A feed, and the objects of it that are in force. Must be called within a tokio runtime. Generation 0 means that
/// [`Feed::complete`] was not called yet.
pub fn feed() -> (Feed, watch::Receiver<Arc<Loaded>>) {
    let (changes, events) = mpsc::channel(WAITING);
    (Feed { changes }, collect(events, Health::default()))
}

impl Feed {
    /// An object is new or different. Waits while too many wait.
    pub async fn apply(&self, kind: Kind, object: Value) {
        // An error means that the receiver is gone.
        let _ = self
            .changes
            .send(Change::Applied(item(kind.descriptor(), object)))
            .await;
    }

    /// An object is gone.
    pub async fn remove(&self, kind: Kind, name: ObjectName) {
        let _ = self.changes.send(Change::Deleted(kind, name)).await;
    }

    /// Ends the first list: all objects that there are at the beginning were sent.
    pub async fn complete(&self) {
        for part in Part::all() {
            let _ = self.changes.send(Change::Complete(part)).await;
        }
    }
}
