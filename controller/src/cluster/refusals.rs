//! What the proxies of all replicas refuse: each replica knows of those that are connected to it, and the leader writes the status of objects.
//!
//! A ConfigMap of the system namespace has a key for each replica whose proxies refuse something. As long as they do, the replica writes it
//! anew now and then. A key that is not written anew for a while is of a replica that is gone: whatever its proxies refuse, they have
//! refused by then of another. As with the Lease, no clocks are compared: it counts since when a replica itself has seen the key as it is. So a
//! replica that stops leaves its key, and nothing is taken for accepted in between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Error};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::manager::MANAGER;
use crate::model::Refusal;

/// The ConfigMap's name.
const NAME: &str = "culvert-controller-refusals";
/// How often what others write is read.
const LOOK: Duration = Duration::from_secs(5);
/// How often what stands is written anew.
const RENEW: Duration = Duration::from_secs(20);
/// After how long a key that is not written anew does not count.
const GONE: Duration = Duration::from_secs(75);
/// How long changes are gathered before they are written.
const GATHER: Duration = Duration::from_millis(500);
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(5);
/// How long a replica that begins waits for what others have written, before it writes conditions without that.
const PATIENCE: Duration = Duration::from_secs(15);
/// The most that one replica writes, bytes: a ConfigMap has a MiB for all of them.
const MOST_BYTES: usize = 200 * 1024;

/// Shares what the proxies of this replica refuse, and finds out what those of others do.
pub(super) struct Shared {
    pub(super) client: Client,
    /// The system namespace.
    pub(super) namespace: String,
    pub(super) replica: String,
    pub(super) own: watch::Receiver<Arc<BTreeSet<Refusal>>>,
    pub(super) all: watch::Sender<Arc<BTreeSet<Refusal>>>,
    /// Whether `all` has what the others have written, or they were waited for in vain.
    pub(super) is_known: watch::Sender<bool>,
    pub(super) leader: watch::Receiver<bool>,
    pub(super) stop: watch::Receiver<bool>,
}

/// What one replica writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// Another one each time that it is written.
    renewed: u64,
    refusals: BTreeSet<Refusal>,
}

/// What this replica has written.
struct Own {
    key: String,
    note: Note,
    /// When it was written last, as long as something stands.
    renewed: Option<Instant>,
    failed: bool,
}

/// What the others have written.
#[derive(Debug, Default)]
struct Others {
    /// By key, and since when it is so.
    seen: BTreeMap<String, (String, Instant)>,
}

impl Shared {
    /// Until `stop` turns true.
    pub(super) async fn run(mut self) {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let (mut own, mut others) = (Own::new(&self.replica), Others::default());
        let begin = Instant::now();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => {}
                changed = self.own.changed() => if changed.is_err() { return },
                _ = self.stop.wait_for(|stop| *stop) => return,
            }
            tokio::time::sleep(GATHER).await;
            let refusals = Arc::clone(&self.own.borrow_and_update());
            own.write(&api, &refusals).await;
            let mut is_known = begin.elapsed() >= PATIENCE;
            match limited(read(&api)).await {
                Ok(data) => {
                    others.take(data, &own.key, Instant::now());
                    is_known = true;
                }
                Err(error) => tracing::debug!(error, "what proxies of other replicas refuse could not be read"),
            }
            let now = Instant::now();
            let found: BTreeSet<Refusal> = refusals.iter().cloned().chain(others.refusals(now)).collect();
            self.all.send_if_modified(|before| {
                let is_other = **before != found;
                if is_other {
                    *before = Arc::new(found);
                }
                is_other
            });
            if is_known && !*self.is_known.borrow() {
                self.is_known.send_replace(true);
            }
            let gone = others.gone(now);
            let leads = *self.leader.borrow();
            if leads
                && !gone.is_empty()
                && let Err(error) = limited(remove(&api, &gone)).await
            {
                tracing::debug!(error, "what a replica that is gone has written could not be removed");
            }
        }
    }
}

impl Own {
    fn new(replica: &str) -> Self {
        Self {
            key: key_of(replica),
            note: Note::default(),
            renewed: None,
            failed: false,
        }
    }

    /// Writes what stands, where that is due.
    async fn write(&mut self, api: &Api<ConfigMap>, refusals: &BTreeSet<Refusal>) {
        let refusals = fitting(refusals);
        let is_due = self.renewed.is_some_and(|at| at.elapsed() >= RENEW);
        if refusals == self.note.refusals && !is_due && !self.failed {
            return;
        }
        self.renewed = (!refusals.is_empty()).then(Instant::now);
        self.note = Note {
            renewed: self.note.renewed.wrapping_add(1),
            refusals,
        };
        let outcome = limited(write(api, &self.key, &self.note)).await;
        self.failed = outcome.is_err();
        if let Err(error) = outcome {
            tracing::debug!(error, "what proxies refuse could not be written for other replicas");
        }
    }
}

/// As many as one replica may write.
fn fitting(refusals: &BTreeSet<Refusal>) -> BTreeSet<Refusal> {
    let mut left = MOST_BYTES;
    let fits = |refusal: &&Refusal| {
        let length = json!(refusal).to_string().len();
        let fits = length <= left;
        left = left.saturating_sub(length);
        fits
    };
    refusals.iter().take_while(fits).cloned().collect()
}

async fn limited<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    match tokio::time::timeout(REQUEST, request).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

/// Writes one key, and makes the object if it is not there.
async fn write(api: &Api<ConfigMap>, key: &str, note: &Note) -> Result<(), Error> {
    let value = match note.refusals.is_empty() {
        true => serde_json::Value::Null,
        false => json!(note).to_string().into(),
    };
    let patch = Patch::Merge(json!({ "data": { key: value } }));
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    match api.patch(NAME, &params, &patch).await {
        Err(error) if is_away(&error) && note.refusals.is_empty() => Ok(()),
        Err(error) if is_away(&error) => {
            // Nothing but the object itself: the keys are each replica's own.
            let object = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": { "name": NAME, "labels": { "culvert.dev/managed-by": MANAGER } },
            });
            api.patch(NAME, &PatchParams::apply(MANAGER), &Patch::Apply(&object))
                .await?;
            api.patch(NAME, &params, &patch).await.map(drop)
        }
        answer => answer.map(drop),
    }
}

async fn read(api: &Api<ConfigMap>) -> Result<BTreeMap<String, String>, Error> {
    let found = api.get_opt(NAME).await?;
    Ok(found.and_then(|object| object.data).unwrap_or_default())
}

async fn remove(api: &Api<ConfigMap>, keys: &[String]) -> Result<(), Error> {
    let none: BTreeMap<&String, Option<&str>> = keys.iter().map(|key| (key, None)).collect();
    let patch = Patch::Merge(json!({ "data": none }));
    api.patch(NAME, &PatchParams::default(), &patch).await.map(drop)
}

fn is_away(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 404)
}

/// A key that a ConfigMap may have.
fn key_of(replica: &str) -> String {
    let fitting = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let mut key: String = replica
        .chars()
        .map(|letter| if fitting(letter) { letter } else { '_' })
        .collect();
    // What tells processes apart is at the end.
    if let Some(start) = key.len().checked_sub(253) {
        key.drain(..start);
    }
    key
}

impl Others {
    /// Takes in what is there at `now`.
    fn take(&mut self, mut data: BTreeMap<String, String>, own: &str, now: Instant) {
        data.remove(own);
        self.seen.retain(|key, _| data.contains_key(key));
        for (key, value) in data {
            match self.seen.get_mut(&key) {
                Some((known, _)) if *known == value => {}
                _ => drop(self.seen.insert(key, (value, now))),
            }
        }
    }

    /// What their proxies refuse. What cannot be read is of a replica of another version, and left out.
    fn refusals(&self, now: Instant) -> impl Iterator<Item = Refusal> {
        let live = self.seen.values().filter(move |(_, since)| !is_gone(*since, now));
        let notes = live.filter_map(|(value, _)| serde_json::from_str::<Note>(value).ok());
        notes.flat_map(|note| note.refusals)
    }

    /// Keys of replicas that are gone.
    fn gone(&self, now: Instant) -> Vec<String> {
        let gone = self.seen.iter().filter(|(_, (_, since))| is_gone(*since, now));
        gone.map(|(key, _)| key.clone()).collect()
    }
}

fn is_gone(since: Instant, now: Instant) -> bool {
    now.duration_since(since) >= GONE
}

#[cfg(test)]
mod tests;
