//! A cluster's API server as the source: every kind is followed by a task of its own, and one task collects
//! their events.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use culvert_objects::{Kind, Loaded};
use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::follow::{ABSENT, Follower};
use super::health::Health;
use super::offer;
use super::store::{Change, Part, Store};

/// Changes that wait to be put together. A follower that finds it full waits, so that memory stays bounded.
pub(super) const WAITING: usize = 256;
/// How long a first change waits for others, so that a burst makes one snapshot.
const SHORTEST_WAIT: Duration = Duration::from_millis(2);
/// The same while snapshots are expensive and changes do not end.
const LONGEST_WAIT: Duration = Duration::from_millis(200);
/// How often what is held is counted.
const MEASURE: Duration = Duration::from_secs(5);

/// Follows the cluster behind `client`. The receiver holds generation 0, which is nothing, until every kind is known.
pub(crate) fn follow(client: &Client, health: &Health) -> watch::Receiver<Arc<Loaded>> {
    follow_looking(client, health, ABSENT)
}

/// As [`follow`], looking so often for what is not there.
fn follow_looking(client: &Client, health: &Health, absent: Duration) -> watch::Receiver<Arc<Loaded>> {
    let (changes, events) = mpsc::channel(WAITING);
    let offer = offer::follow(client.clone(), absent);
    for part in Part::all() {
        let follower = Follower {
            part,
            descriptor: part.kind.descriptor(),
            client: client.clone(),
            changes: changes.clone(),
            health: health.clone(),
            offer: offer.clone(),
            absent,
        };
        tokio::spawn(follower.run());
    }
    collect(events, health.clone())
}

/// Collects events, and publishes the objects that are in force.
pub(super) fn collect(events: mpsc::Receiver<Change>, health: Health) -> watch::Receiver<Arc<Loaded>> {
    let (publish, receiver) = watch::channel(Arc::default());
    let collector = Collector {
        store: Store::default(),
        health,
        publish,
        cost: Duration::ZERO,
    };
    tokio::spawn(collector.run(events));
    receiver
}

/// Collects the events of all kinds.
struct Collector {
    store: Store,
    health: Health,
    publish: watch::Sender<Arc<Loaded>>,
    /// What the last snapshot took.
    cost: Duration,
}

impl Collector {
    async fn run(mut self, mut events: mpsc::Receiver<Change>) {
        let mut measure = tokio::time::interval(MEASURE);
        let mut due: Option<Instant> = None;
        let mut counted: BTreeSet<Kind> = Kind::followed().collect();
        loop {
            let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
            tokio::select! {
                change = events.recv() => {
                    let Some(change) = change else { return };
                    if self.take(change, &mut counted) && due.is_none() {
                        due = Some(Instant::now() + (self.cost * 2).clamp(SHORTEST_WAIT, LONGEST_WAIT));
                    }
                }
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {
                    due = None;
                    self.publish();
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
            Change::Complete(part) => Some(part.kind),
            _ => None,
        };
        let changed = self.store.take(change);
        if changed {
            counted.extend(Kind::followed());
        }
        if let Some(kind) = complete {
            self.health.measure(kind, &self.store);
            if self.store.is_known(kind) {
                self.health.synced(kind);
            }
        }
        changed && self.store.is_complete()
    }

    /// Publishes what is in force now, unless that is what was before.
    fn publish(&mut self) {
        let begin = Instant::now();
        let (objects, findings) = self.store.settle();
        self.publish.send_if_modified(|current| {
            let same = current.findings.is_same(findings) && current.objects.is_same(objects);
            let changed = current.generation == 0 || !same;
            if changed {
                *current = Arc::new(Loaded {
                    objects: objects.clone(),
                    findings: findings.clone(),
                    generation: current.generation + 1,
                });
            }
            changed
        });
        self.cost = begin.elapsed();
    }
}

#[cfg(test)]
mod tests;
