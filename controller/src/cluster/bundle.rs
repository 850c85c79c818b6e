//! The trust bundle: a ConfigMap with the root certificates, in the system namespace and in every namespace that has to
//! do with the mesh, so that programs there can check whom they talk to.
//!
//! The leader writes it. What others change in it is put back; it goes when its namespace leaves the mesh. A ConfigMap of
//! that name without our label is somebody else's, and is never removed. The system namespace owns all of ours: who deletes
//! it, and with it the controller, has them removed by the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use culvert_objects::Objects;
use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::enrolled::Enrolled;
use super::manager::MANAGER;
use super::retries::Retries;
use crate::state::State;

/// The ConfigMap's name.
const NAME: &str = "culvert-ca-root-cert";
/// The key in it.
const KEY: &str = "root-cert.pem";
/// Says that this ConfigMap is ours.
const LABEL: &str = "culvert.dev/managed-by";
/// How long changes are gathered before anything is written.
const GATHER: Duration = Duration::from_millis(100);
/// Requests that wait for their answers at a time.
const AT_ONCE: usize = 8;

/// A ConfigMap that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Present {
    pem: Option<String>,
    ours: bool,
    /// The uids of what it goes with.
    owners: Vec<String>,
    uid: Option<String>,
}

/// What a ConfigMap has to hold.
struct Right<'a> {
    pem: &'a str,
    /// The uid of the system namespace.
    owner: &'a str,
}

/// What has to be written.
#[derive(Debug, PartialEq, Eq)]
enum Write {
    Apply(String),
    Remove(String, Option<String>),
}

/// Keeps the ConfigMaps as they should be while this replica leads.
pub(super) struct Bundles {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) state: watch::Receiver<Arc<State>>,
    pub(super) roots: watch::Receiver<Arc<str>>,
    pub(super) enrolled: Enrolled,
    /// The namespaces that waypoints are in.
    pub(super) waypoints_in: watch::Receiver<BTreeSet<String>>,
    pub(super) leader: watch::Receiver<bool>,
    pub(super) stop: watch::Receiver<bool>,
    /// What cannot be written, if something cannot.
    pub(super) problem: watch::Sender<Option<String>>,
}

impl Bundles {
    /// Until `stop` turns true.
    pub(super) async fn run(mut self) {
        let (sender, mut heard) = mpsc::channel(64);
        let watching = tokio::spawn(follow(self.client.clone(), sender));
        let mut present = BTreeMap::new();
        let mut known = false;
        let mut retries = Retries::default();
        loop {
            let again = retries
                .next()
                .unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                event = heard.recv() => match event {
                    Some(event) => known |= take(&mut present, event),
                    None => break,
                },
                changed = self.state.changed() => if changed.is_err() { break },
                changed = self.roots.changed() => if changed.is_err() { break },
                changed = self.leader.changed() => if changed.is_err() { break },
                changed = self.waypoints_in.changed() => if changed.is_err() { break },
                _ = self.stop.wait_for(|stop| *stop) => break,
                () = tokio::time::sleep_until(again) => {}
            }
            tokio::time::sleep(GATHER).await;
            while let Ok(event) = heard.try_recv() {
                known |= take(&mut present, event);
            }
            if known {
                self.write(&present, &mut retries).await;
                self.problem.send_if_modified(|problem| {
                    let now = retries.finding();
                    let changed = *problem != now;
                    *problem = now;
                    changed
                });
            }
        }
        watching.abort();
    }

    /// Writes what is not as it should be.
    async fn write(&mut self, present: &BTreeMap<String, Present>, retries: &mut Retries) {
        let pem = Arc::clone(&self.roots.borrow_and_update());
        let state = Arc::clone(&self.state.borrow_and_update());
        // Before there is a root, and before the namespaces are known, nobody can tell what is right.
        if !*self.leader.borrow() || pem.is_empty() || state.loaded.generation == 0 {
            // Whoever leads sees to what failed here.
            retries.retain(&BTreeSet::new());
            return;
        }
        let objects = &state.loaded.objects;
        let system = objects.namespace(&self.namespace);
        let Some(owner) = system.and_then(|namespace| namespace.metadata.uid.as_deref()) else {
            return;
        };
        self.enrolled.update(objects);
        let waypoints_in = self.waypoints_in.borrow_and_update().clone();
        let wanted = wanted(&self.enrolled, waypoints_in, objects, &self.namespace);
        let (this, right) = (&*self, &Right { pem: &pem, owner });
        let all = writes(&wanted, present, right);
        retries.retain(&all.iter().map(|write| write.namespace().to_owned()).collect());
        let now = Instant::now();
        let due: Vec<Write> = all
            .into_iter()
            .filter(|write| retries.is_due(write.namespace(), now))
            .collect();
        let mut results = futures_util::stream::iter(due)
            .map(|write| async move {
                // Whoever has lost the lease in between does not go on.
                let leads = *this.leader.borrow();
                let outcome = match leads {
                    true => this.write_one(&write, right).await,
                    false => Ok(()),
                };
                (write, outcome)
            })
            .buffer_unordered(AT_ONCE);
        while let Some((write, outcome)) = results.next().await {
            let namespace = write.namespace();
            match outcome {
                Ok(()) => {
                    if retries.succeeded(namespace) {
                        tracing::info!(namespace, "the trust bundle can be written again");
                    }
                }
                Err(reason) => {
                    if retries.failed(namespace, reason.clone(), Instant::now()) {
                        tracing::warn!(
                            namespace,
                            reason,
                            "the trust bundle cannot be written; trying again, less and less often"
                        );
                    }
                }
            }
        }
    }

    async fn write_one(&self, write: &Write, right: &Right<'_>) -> Result<(), String> {
        let api = |namespace: &str| Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        let (namespace, outcome) = match write {
            Write::Apply(namespace) => {
                let map = json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": {
                        "name": NAME,
                        "labels": {LABEL: MANAGER},
                        "ownerReferences": [
                            {"apiVersion": "v1", "kind": "Namespace", "name": self.namespace, "uid": right.owner},
                        ],
                    },
                    "data": {KEY: right.pem},
                });
                let params = PatchParams::apply(MANAGER).force();
                let applied = api(namespace).patch(NAME, &params, &Patch::Apply(&map)).await;
                (namespace, applied.map(drop))
            }
            Write::Remove(namespace, uid) => {
                let params = DeleteParams::default().preconditions(Preconditions {
                    uid: uid.clone(),
                    resource_version: None,
                });
                (namespace, api(namespace).delete(NAME, &params).await.map(drop))
            }
        };
        match outcome {
            Ok(()) => tracing::info!(namespace, ?write, "trust bundle"),
            // Gone, with its namespace or without; or replaced, of which we hear.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(kube::Error::Api(status)) => return Err(status.message),
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }
}

impl Write {
    fn namespace(&self) -> &str {
        match self {
            Self::Apply(namespace) | Self::Remove(namespace, _) => namespace,
        }
    }
}

/// Hears of all ConfigMaps of the name.
async fn follow(client: Client, sender: mpsc::Sender<watcher::Event<ConfigMap>>) {
    let config = watcher::Config::default()
        .fields(&format!("metadata.name={NAME}"))
        .timeout(super::client::WATCH_SECONDS);
    let events = watcher(Api::all(client), config).default_backoff();
    let mut events = std::pin::pin!(events);
    loop {
        match events.try_next().await {
            Ok(Some(event)) => {
                if sender.send(event).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => tracing::debug!(%error, "trust bundles"),
        }
    }
}

/// Takes an event in. True once all are known.
fn take(present: &mut BTreeMap<String, Present>, event: watcher::Event<ConfigMap>) -> bool {
    match event {
        watcher::Event::Init => present.clear(),
        watcher::Event::Apply(map) | watcher::Event::InitApply(map) => {
            let labels = map.metadata.labels.unwrap_or_default();
            let owners = map.metadata.owner_references.unwrap_or_default();
            let now = Present {
                pem: map.data.and_then(|mut data| data.remove(KEY)),
                ours: labels.get(LABEL).is_some_and(|value| value == MANAGER),
                owners: owners.into_iter().map(|owner| owner.uid).collect(),
                uid: map.metadata.uid,
            };
            present.insert(map.metadata.namespace.unwrap_or_default(), now);
        }
        watcher::Event::Delete(map) => drop(present.remove(&map.metadata.namespace.unwrap_or_default())),
        watcher::Event::InitDone => return true,
    }
    false
}

/// The namespaces that need the bundle: the system's, those that are enrolled, those with a pod that is, and those with a waypoint.
fn wanted(enrolled: &Enrolled, waypoints_in: BTreeSet<String>, objects: &Objects, system: &str) -> BTreeSet<String> {
    let mut found = waypoints_in;
    found.extend(enrolled.namespaces().map(|(name, _)| name.to_string()));
    found.insert(system.to_owned());
    // Nothing can be made in a namespace that is being deleted, and what is there goes with it.
    found.retain(|name| {
        objects
            .namespace(name)
            .is_some_and(|n| n.metadata.deletion_timestamp.is_none())
    });
    found
}

fn writes(wanted: &BTreeSet<String>, present: &BTreeMap<String, Present>, right: &Right<'_>) -> Vec<Write> {
    let is_right = |namespace: &String| {
        present
            .get(namespace)
            .is_some_and(|p| p.ours && p.pem.as_deref() == Some(right.pem) && p.owners == [right.owner])
    };
    let missing = wanted.iter().filter(|n| !is_right(n)).map(|n| Write::Apply(n.clone()));
    let left = present
        .iter()
        .filter(|(namespace, p)| p.ours && !wanted.contains(*namespace));
    missing
        .chain(left.map(|(namespace, p)| Write::Remove(namespace.clone(), p.uid.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(pem: &str, ours: bool) -> Present {
        Present {
            pem: Some(pem.to_owned()),
            ours,
            owners: vec!["system".to_owned()],
            uid: Some("u".to_owned()),
        }
    }

    #[test]
    fn only_what_differs_is_written_and_only_ours_removed() {
        let wanted = ["changed", "new", "orphan", "right"].map(str::to_owned).into();
        let orphan = Present {
            owners: vec!["an earlier installation".to_owned()],
            ..present("pem", true)
        };
        let there = [
            ("changed", present("other", true)),
            ("orphan", orphan),
            ("right", present("pem", true)),
            ("left", present("pem", true)),
            ("theirs", present("pem", false)),
        ];
        let there = there.map(|(name, p)| (name.to_owned(), p)).into();
        let expected = [
            Write::Apply("changed".to_owned()),
            Write::Apply("new".to_owned()),
            Write::Apply("orphan".to_owned()),
            Write::Remove("left".to_owned(), Some("u".to_owned())),
        ];
        let right = Right {
            pem: "pem",
            owner: "system",
        };
        assert_eq!(writes(&wanted, &there, &right), expected);
    }
}
