//! ConfigMaps that policies name, for the certificates in them: each is read by itself, when it is named and now and then afterwards.
//!
//! That asks for no more than the right to read a ConfigMap whose name one knows: nothing is listed or watched. One that may not be read is
//! as one that is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use culvert_objects::{Kind, ObjectName};
use futures_util::StreamExt as _;
use kube::Client;
use kube::core::Request;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::follow::item;
use super::store::Change;

/// How often a ConfigMap is read again.
pub(super) const REFRESH: Duration = Duration::from_secs(10);
/// How soon one is read again that could not be.
const RETRY: Duration = Duration::from_secs(1);
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Requests that wait for their answers at a time.
const AT_ONCE: usize = 8;

/// What reads them.
pub(super) struct Named {
    pub(super) client: Client,
    pub(super) changes: mpsc::Sender<Change>,
    /// Those that policies name.
    pub(super) wanted: watch::Receiver<BTreeSet<ObjectName>>,
    /// How often one is read again.
    pub(super) refresh: Duration,
}

/// What an API server answers.
enum Looked {
    There(Value),
    /// Nobody can tell it from one that is not there.
    Away,
    Unknown(String),
}

impl Named {
    /// Until the receiver of changes is gone.
    pub(super) async fn run(mut self) {
        // When each is read next.
        let mut due: BTreeMap<ObjectName, Instant> = BTreeMap::new();
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let now = Instant::now();
            let left: Vec<ObjectName> = due.keys().filter(|name| !wanted.contains(name)).cloned().collect();
            for name in left {
                due.remove(&name);
                if self.changes.send(Change::Unnamed(name)).await.is_err() {
                    return;
                }
            }
            let is_due = |name: &ObjectName| due.get(name).is_none_or(|time| *time <= now);
            let names: Vec<ObjectName> = wanted.into_iter().filter(is_due).collect();
            let this = &self;
            let looking = futures_util::stream::iter(names).map(|name| async move { (this.look(&name).await, name) });
            let mut looked = looking.buffer_unordered(AT_ONCE);
            while let Some((found, name)) = looked.next().await {
                let again = if matches!(found, Looked::Unknown(_)) {
                    RETRY
                } else {
                    self.refresh
                };
                due.insert(name.clone(), Instant::now() + again);
                let change = match found {
                    Looked::There(value) => Change::Named(name, Some(item(Kind::ConfigMap.descriptor(), value))),
                    Looked::Away => Change::Named(name, None),
                    // What was known stays.
                    Looked::Unknown(why) => {
                        tracing::warn!(%name, why, "a ConfigMap with certificates could not be read; what was known of it holds");
                        continue;
                    }
                };
                if self.changes.send(change).await.is_err() {
                    return;
                }
            }
            drop(looked);
            let next = due
                .values()
                .min()
                .copied()
                .unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                changed = self.wanted.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    async fn look(&self, name: &ObjectName) -> Looked {
        let path = format!("/api/v1/namespaces/{}/configmaps", name.namespace);
        let request = match Request::new(path).get(&name.name, &kube::api::GetParams::default()) {
            Ok(request) => request,
            Err(error) => return Looked::Unknown(error.to_string()),
        };
        match tokio::time::timeout(DEADLINE, self.client.request::<Value>(request)).await {
            Ok(Ok(value)) => Looked::There(value),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Looked::Away,
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                tracing::warn!(%name, "a ConfigMap with certificates may not be read");
                Looked::Away
            }
            Ok(Err(error)) => Looked::Unknown(error.to_string()),
            Err(_) => Looked::Unknown("no answer in time".to_owned()),
        }
    }
}
