//! A cluster's API server as the source: every kind is followed by a task of its own, and one task collects
//! their events.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use culvert_objects::{Kind, Loaded, ObjectName, named_authorities};
use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::follow::{ABSENT, Follower};
use super::health::Health;
use super::named::{Named, REFRESH};
use super::offer;
use super::store::{Change, Part, Store};

/// Changes that wait to be put together. A follower that finds it full waits, so that memory stays bounded.
pub(super) const WAITING: usize = 256;
/// How long after a snapshot changes wait for others, so that a burst makes few snapshots. One that comes alone waits for nothing.
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
    let (names, wanted) = watch::channel(BTreeSet::new());
    let named = Named {
        client: client.clone(),
        changes,
        wanted,
        refresh: absent.min(REFRESH),
    };
    tokio::spawn(named.run());
    collect_naming(events, health.clone(), Some(names))
}

/// Collects events, and publishes the objects that are in force.
pub(super) fn collect(events: mpsc::Receiver<Change>, health: Health) -> watch::Receiver<Arc<Loaded>> {
    collect_naming(events, health, None)
}

/// The same, which says to somebody what policies name.
fn collect_naming(
    events: mpsc::Receiver<Change>,
    health: Health,
    names: Option<watch::Sender<BTreeSet<ObjectName>>>,
) -> watch::Receiver<Arc<Loaded>> {
    let (publish, receiver) = watch::channel(Arc::default());
    let collector = Collector {
        store: Store::default(),
        health,
        publish,
        names,
        rest: None,
    };
    tokio::spawn(collector.run(events));
    receiver
}

/// Collects the events of all kinds.
struct Collector {
    store: Store,
    health: Health,
    publish: watch::Sender<Arc<Loaded>>,
    /// Tells which ConfigMaps policies name.
    names: Option<watch::Sender<BTreeSet<ObjectName>>>,
    /// Until when changes wait after the last snapshot.
    rest: Option<Instant>,
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
                    let mut is_due = self.take(change, &mut counted);
                    // Those that have come with it are told with it.
                    for _ in 0..WAITING {
                        let Ok(change) = events.try_recv() else { break };
                        is_due |= self.take(change, &mut counted);
                    }
                    if is_due && due.is_none() {
                        due = Some(self.rest.unwrap_or_else(Instant::now));
                    }
                    if due.is_some_and(|due| due <= Instant::now()) {
                        due = None;
                        self.publish();
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

    /// Says which ConfigMaps policies name, and whether all of them were looked at before anything was published: else a controller that begins
    /// would tell proxies that there are no certificates. Later nobody waits for one.
    fn knows_what_is_named(&mut self) -> bool {
        let Some(names) = &self.names else { return true };
        let (objects, _) = self.store.settle();
        let wanted = named_authorities(&objects.backend_tls_policies);
        names.send_if_modified(|known| {
            let is_other = *known != wanted;
            known.clone_from(&wanted);
            is_other
        });
        self.publish.borrow().generation > 0 || wanted.is_subset(self.store.named())
    }

    /// Publishes what is in force now, unless that is what was before.
    fn publish(&mut self) {
        let begin = Instant::now();
        if !self.knows_what_is_named() {
            return;
        }
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
        let now = Instant::now();
        self.rest = Some(now + ((now - begin) * 2).clamp(SHORTEST_WAIT, LONGEST_WAIT));
    }
}

#[cfg(test)]
mod tests;
