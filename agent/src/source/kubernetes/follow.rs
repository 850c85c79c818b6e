//! The tasks that keep the book: the watches, the searches, and a look now and then at what vanishes without a word.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::{
        utils::{Backoff, StreamBackoff},
        watcher::{self, Event, watcher},
    },
};
use tokio::{
    task::AbortHandle,
    time::{MissedTickBehavior, interval},
};

use super::{
    book::{Origin, Place},
    facts::{Facts, deciding_metadata, strip},
    health::Watched,
    shared::{Shared, explain},
};
use crate::cri::{self, Seen};

/// How often to look whether network namespaces are still there.
const LOOK: Duration = Duration::from_secs(1);

/// How many looks a search that was in vain waits for the next.
const LOOKS_PER_SEARCH: u32 = 2;

/// How many looks pods wait that only an answer named, before it is asked whether they still are there.
const LOOKS_PER_QUESTION: u32 = 30;

/// The first wait after a failure, and the longest.
const WAITS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(3)];

/// Ends the task when it is dropped.
#[derive(Debug)]
pub(super) struct Task(AbortHandle);

impl Task {
    pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Follows the pods of the node.
pub(super) async fn pods(shared: Arc<Shared>) {
    let api: Api<Pod> = Api::all(shared.client.clone());
    let ours = watcher::Config::default().fields(&format!("spec.nodeName={}", shared.node));
    let events = watcher(api, ours).map(|event| event.map(|event| event.modify(strip)));
    let mut events = pin!(patiently(events));
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => shared.with(|book| book.list_begins()),
            Ok(Event::InitDone) => shared.with(|book| book.list_ends()),
            Ok(Event::InitApply(pod) | Event::Apply(pod)) => {
                if let Some(facts) = Facts::of(&pod) {
                    shared.with(|book| book.pod(facts, Origin::Watch));
                }
            }
            Ok(Event::Delete(pod)) => {
                if let Some(facts) = Facts::of(&pod) {
                    shared.with(|book| book.pod_gone(&facts));
                }
            }
            Err(error) => {
                tracing::warn!(error = explain(&error), "pods cannot be watched for now");
                shared.health.failed(Watched::Pods);
                continue;
            }
        }
        shared.health.heard(Watched::Pods);
    }
}

/// Starts and stops the watches of namespaces with their pods.
pub(super) async fn namespaces(shared: Arc<Shared>) {
    let mut followed: HashMap<String, Task> = HashMap::new();
    loop {
        let wanted: BTreeSet<String> = shared.read(|book| book.namespaces());
        followed.retain(|name, _| wanted.contains(name));
        for name in wanted {
            followed
                .entry(name)
                .or_insert_with_key(|name| Task::spawn(namespace(Arc::clone(&shared), name.clone())));
        }
        shared.namespaces_changed.notified().await;
    }
}

async fn namespace(shared: Arc<Shared>, name: String) {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(shared.client.clone());
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = pin!(patiently(watcher(api, only)));
    let mut is_there = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => is_there = false,
            Ok(Event::InitDone) if is_there => {}
            Ok(Event::InitDone | Event::Delete(_)) => shared.with(|book| book.namespace_gone(&name)),
            Ok(Event::InitApply(namespace) | Event::Apply(namespace)) => {
                is_there = true;
                let version = namespace.resource_version().and_then(|text| text.parse().ok());
                let labels = deciding_metadata(&namespace.metadata);
                shared.with(|book| book.namespace(&name, labels, version));
            }
            Err(error) => {
                tracing::warn!(
                    namespace = name,
                    error = explain(&error),
                    "the namespace cannot be watched for now"
                );
                shared.health.failed(Watched::Namespaces);
                continue;
            }
        }
        shared.health.heard(Watched::Namespaces);
    }
}

/// Searches for network namespaces whenever some are missing.
pub(super) async fn searches(shared: Arc<Shared>) {
    loop {
        let sought = shared.read(|book| book.sought());
        if sought.is_empty() {
            shared.search_due.notified().await;
            continue;
        }
        let questions = sought.iter().map(|sought| cri::Sought {
            uid: sought.uid.to_string(),
            namespace: sought.pod.namespace.clone(),
            name: sought.pod.name.clone(),
        });
        let answers = shared.locator.find(questions.collect()).await;
        shared.with(|book| {
            for (sought, answer) in sought.iter().zip(answers) {
                let place = answer.map(|found| {
                    found.map(|found| Place {
                        netns: found.netns,
                        addresses: found.addresses,
                    })
                });
                book.found(sought, place);
            }
        });
    }
}

/// Looks after what changes without a word: network namespaces that go, searches in vain, answers never confirmed.
pub(super) async fn looks(shared: Arc<Shared>) {
    let mut clock = interval(LOOK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen: HashMap<PathBuf, Seen> = HashMap::new();
    let mut count: u32 = 0;
    loop {
        clock.tick().await;
        count = count.wrapping_add(1);
        look(&shared, &mut seen);
        if count.is_multiple_of(LOOKS_PER_SEARCH) {
            shared.with(|book| book.search_again());
        }
        if count.is_multiple_of(LOOKS_PER_QUESTION) {
            shared.confirm().await;
        }
    }
}

fn look(shared: &Shared, seen: &mut HashMap<PathBuf, Seen>) {
    let places = shared.read(|book| book.places());
    let mut now = HashMap::with_capacity(places.len());
    for (sought, path) in places {
        let sight = Seen::at(&path);
        let is_same = seen.get(&path).is_none_or(|before| *before == sight);
        if sight.is_there() && is_same {
            now.insert(path, sight);
        } else {
            let is_news = shared.with(|book| book.vanished(&sought));
            if is_news {
                tracing::info!(pod = %sought.pod, netns = %path.display(), "the name of the pod's network namespace is gone");
            }
        }
    }
    *seen = now;
}

/// Waits longer after each failure in a row.
fn patiently<T: Send>(
    events: impl Stream<Item = watcher::Result<T>> + Send,
) -> impl Stream<Item = watcher::Result<T>> + Send {
    StreamBackoff::new(events, Waits::default())
}

/// How long to wait after failures. A success does not count until it has lasted, since a watch that begins anew says so
/// before it has asked anything.
#[derive(Debug, Default)]
struct Waits {
    failures: u32,
    last: Option<Instant>,
}

impl Iterator for Waits {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let [first, longest] = WAITS;
        if self.last.is_some_and(|last| last.elapsed() > longest * 2) {
            self.failures = 0;
        }
        let wait = first.saturating_mul(1 << self.failures.min(10)).min(longest);
        (self.failures, self.last) = (self.failures + 1, Some(Instant::now()));
        // Between half of it and all of it, so that a thousand nodes do not come back at the same moment.
        let share = RandomState::new().build_hasher().finish() % 512;
        Some(wait.mul_f64(0.5 + share as f64 / 1024.0))
    }
}

impl Backoff for Waits {
    fn reset(&mut self) {}
}
