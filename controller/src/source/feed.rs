//! Objects as an API server would tell them, from somebody in this process: the way of a cluster's objects from the first
//! byte on, without the cluster.

use std::sync::Arc;

use culvert_objects::{Kind, Loaded, ObjectName};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::follow::item;
use super::health::Health;
use super::kubernetes::{WAITING, collect};
use super::store::Change;

/// Tells of objects.
#[derive(Debug)]
pub struct Feed {
    changes: mpsc::Sender<Change>,
}

/// A feed, and what is in force of what it tells. Must be called within a tokio runtime. Generation 0 means that
/// [`Feed::complete`] was not called yet.
pub fn feed() -> (Feed, watch::Receiver<Arc<Loaded>>) {
    let (changes, heard) = mpsc::channel(WAITING);
    (Feed { changes }, collect(heard, Health::default()))
}

impl Feed {
    /// An object is new or different. Waits while too many wait.
    pub async fn apply(&self, kind: Kind, object: Value) {
        // Nobody listens any more: then nobody misses it.
        let _ = self
            .changes
            .send(Change::Applied(item(kind.descriptor(), object)))
            .await;
    }

    /// An object is gone.
    pub async fn remove(&self, kind: Kind, name: ObjectName) {
        let _ = self.changes.send(Change::Deleted(kind, name)).await;
    }

    /// All objects that there are at the beginning were told.
    pub async fn complete(&self) {
        for kind in Kind::followed() {
            let _ = self.changes.send(Change::Complete(kind)).await;
        }
    }
}
