//! A cluster's API server as the source: every kind is followed by a task of its own, and one task puts together what
//! they hear.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use culvert_objects::{EndpointSlice, Loaded, Namespace, Node, Pod, Service, ServiceAccount};
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::follow::{Fetch, Follower, MetadataOnly, Whole};
use super::health::Health;
use super::store::{Change, Kept, Kind, Store};

/// Changes that wait to be put together. A follower that finds it full waits, so that memory stays bounded.
const WAITING: usize = 256;
/// How long a first change waits for others, so that a burst makes one snapshot.
const SHORTEST_WAIT: Duration = Duration::from_millis(2);
/// The same while snapshots are expensive and changes do not end.
const LONGEST_WAIT: Duration = Duration::from_millis(200);
/// How often what is held is counted.
const MEASURE: Duration = Duration::from_secs(5);

/// Follows the cluster behind `client`. The receiver holds generation 0, which is nothing, until every kind is known.
pub(crate) fn follow(client: &Client, health: &Health) -> watch::Receiver<Arc<Loaded>> {
    let (changes, heard) = mpsc::channel(WAITING);
    let start = Start { changes, health };
    start.follow(Kind::Namespace, MetadataOnly(Api::<Namespace>::all(client.clone())));
    start.follow(Kind::Node, MetadataOnly(Api::<Node>::all(client.clone())));
    start.follow(
        Kind::ServiceAccount,
        MetadataOnly(Api::<ServiceAccount>::all(client.clone())),
    );
    start.follow(Kind::Service, Whole(Api::<Service>::all(client.clone())));
    start.follow(Kind::EndpointSlice, Whole(Api::<EndpointSlice>::all(client.clone())));
    start.follow(Kind::Pod, Whole(Api::<Pod>::all(client.clone())));
    let (publish, receiver) = watch::channel(Arc::default());
    let collector = Collector {
        store: Store::default(),
        health: health.clone(),
        publish,
        cost: Duration::ZERO,
    };
    tokio::spawn(collector.run(heard));
    receiver
}

struct Start<'a> {
    changes: mpsc::Sender<Change>,
    health: &'a Health,
}

impl Start<'_> {
    fn follow<K: Kept>(&self, kind: Kind, fetch: impl Fetch<K> + 'static) {
        let follower = Follower {
            kind,
            fetch,
            changes: self.changes.clone(),
            health: self.health.clone(),
        };
        tokio::spawn(follower.run::<K>());
    }
}

/// Puts together what the followers hear.
struct Collector {
    store: Store,
    health: Health,
    publish: watch::Sender<Arc<Loaded>>,
    /// What the last snapshot took.
    cost: Duration,
}

impl Collector {
    async fn run(mut self, mut heard: mpsc::Receiver<Change>) {
        let mut measure = tokio::time::interval(MEASURE);
        let mut due: Option<Instant> = None;
        let mut counted = BTreeSet::from(Kind::ALL);
        loop {
            let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
            tokio::select! {
                change = heard.recv() => {
                    let Some(change) = change else { return };
                    if self.take(change, &mut counted) && due.is_none() {
                        due = Some(Instant::now() + (self.cost * 2).clamp(SHORTEST_WAIT, LONGEST_WAIT));
                    }
                }
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {
                    due = None;
                    self.snapshot();
                }
                _ = measure.tick() => {
                    for kind in std::mem::take(&mut counted) {
                        self.health.measure(kind, &self.store);
                    }
                }
                () = self.publish.closed() => return,
            }
        }
    }

    fn take(&mut self, change: Change, counted: &mut BTreeSet<Kind>) -> bool {
        let complete = match &change {
            Change::Complete(kind) => Some(*kind),
            _ => None,
        };
        let changed = self.store.take(change);
        if changed {
            counted.extend(Kind::ALL);
        }
        if let Some(kind) = complete {
            self.health.measure(kind, &self.store);
            self.health.synced(kind);
        }
        changed && self.store.is_complete()
    }

    /// Publishes what is in force now, unless that is what was before.
    fn snapshot(&mut self) {
        let begin = Instant::now();
        let (objects, findings) = self.store.assemble();
        self.publish.send_if_modified(|current| {
            let same = current.generation > 0 && current.findings == findings && current.objects.same(&objects);
            if !same {
                let generation = current.generation + 1;
                *current = Arc::new(Loaded {
                    objects,
                    findings,
                    generation,
                });
            }
            !same
        });
        self.cost = begin.elapsed();
    }
}
