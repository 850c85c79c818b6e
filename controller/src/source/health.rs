//! How well the cluster is followed: for readiness, `/status` and metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use culvert_telemetry::prometheus::metrics::counter::Counter;
use culvert_telemetry::prometheus::metrics::family::Family;
use culvert_telemetry::prometheus::metrics::gauge::Gauge;
use culvert_telemetry::prometheus::registry::Registry;
use parking_lot::Mutex;
use serde_json::{Value, json};

use culvert_objects::Kind;

use super::store::Store;

type Labels = [(&'static str, &'static str); 1];

/// Shared between the followers, who write, and the pages, which read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    kinds: Arc<Mutex<BTreeMap<Kind, State>>>,
    metrics: Metrics,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// Whether all objects were listed once.
    synced: bool,
    /// Whether the cluster does not have the kind.
    absent: bool,
    /// Since when changes may be missed, and why.
    stale: Option<(SystemTime, String)>,
    objects: usize,
    bytes: usize,
}

#[derive(Clone, Debug, Default)]
struct Metrics {
    events: Family<Labels, Counter>,
    failures: Family<Labels, Counter>,
    relists: Family<Labels, Counter>,
    objects: Family<Labels, Gauge>,
    bytes: Family<Labels, Gauge>,
    stale: Family<Labels, Gauge>,
}

fn label(kind: Kind) -> Labels {
    [("kind", kind.name())]
}

impl Health {
    /// Health whose metrics are shown.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let own = Self::default();
        let m = &own.metrics;
        registry.register(
            "culvert_controller_watch_events",
            "Changes received from the API server",
            m.events.clone(),
        );
        registry.register(
            "culvert_controller_watch_failures",
            "Watches and lists that failed and were tried again",
            m.failures.clone(),
        );
        registry.register(
            "culvert_controller_watch_relists",
            "Watches that could not go on where they were, so that all was listed again",
            m.relists.clone(),
        );
        registry.register(
            "culvert_controller_kept_objects",
            "Objects of the cluster that are held",
            m.objects.clone(),
        );
        registry.register(
            "culvert_controller_kept_bytes",
            "About how much memory these take",
            m.bytes.clone(),
        );
        registry.register(
            "culvert_controller_stale_since_timestamp_seconds",
            "Since when changes of this kind may be missed; 0 when none are",
            m.stale.clone(),
        );
        for kind in Kind::followed() {
            own.kinds.lock().insert(kind, State::default());
            m.stale.get_or_create(&label(kind)).set(0);
            drop(m.failures.get_or_create(&label(kind)));
        }
        own
    }

    /// The kind is listed, or its watch is open (again).
    pub(crate) fn current(&self, kind: Kind) {
        let mut kinds = self.kinds.lock();
        let state = kinds.entry(kind).or_default();
        state.absent = false;
        if let Some((since, _)) = state.stale.take() {
            let seconds = since.elapsed().map_or(0, |d| d.as_secs());
            tracing::info!(%kind, seconds, "the API server answers again");
        }
        self.metrics.stale.get_or_create(&label(kind)).set(0);
    }

    /// The cluster does not have the kind, which is nothing wrong.
    pub(crate) fn absent(&self, kind: Kind) {
        let known = self.kinds.lock().get(&kind).is_some_and(|state| state.absent);
        self.current(kind);
        self.kinds.lock().entry(kind).or_default().absent = true;
        if !known {
            tracing::info!(%kind, "the cluster does not have this kind; it is looked for again");
        }
    }

    /// The kind cannot be followed at the moment. What is held stays in force.
    pub(crate) fn failed(&self, kind: Kind, why: String) {
        self.metrics.failures.get_or_create(&label(kind)).inc();
        let mut kinds = self.kinds.lock();
        let stale = &mut kinds.entry(kind).or_default().stale;
        let since = match stale {
            Some((since, _)) => *since,
            None => {
                tracing::warn!(%kind, why, "cannot follow the cluster; the last state stays in force");
                SystemTime::now()
            }
        };
        *stale = Some((since, why));
        self.metrics.stale.get_or_create(&label(kind)).set(timestamp(since));
    }

    /// A change was received.
    pub(crate) fn event(&self, kind: Kind) {
        self.metrics.events.get_or_create(&label(kind)).inc();
    }

    /// All has to be listed again.
    pub(crate) fn relisted(&self, kind: Kind) {
        self.metrics.relists.get_or_create(&label(kind)).inc();
    }

    /// A list is complete.
    pub(crate) fn synced(&self, kind: Kind) {
        self.kinds.lock().entry(kind).or_default().synced = true;
    }

    /// Counts what is held of a kind.
    pub(crate) fn measure(&self, kind: Kind, store: &Store) {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let (objects, bytes) = (store.count(kind), store.bytes(kind));
        self.metrics.objects.get_or_create(&label(kind)).set(number(objects));
        self.metrics.bytes.get_or_create(&label(kind)).set(number(bytes));
        let mut kinds = self.kinds.lock();
        let state = kinds.entry(kind).or_default();
        (state.objects, state.bytes) = (objects, bytes);
    }

    /// Kinds of which not all is known yet: until there is none, nothing is served.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let kinds = self.kinds.lock();
        let synced = |kind: &Kind| kinds.get(kind).is_some_and(|state| state.synced);
        Kind::followed().filter(|kind| !synced(kind)).map(Kind::name).collect()
    }

    /// For people and programs.
    pub(crate) fn describe(&self) -> Value {
        let kinds = self.kinds.lock();
        let since = kinds
            .values()
            .filter_map(|s| s.stale.as_ref())
            .map(|(since, _)| *since)
            .min();
        let kind = |(kind, state): (&Kind, &State)| {
            let stale = state
                .stale
                .as_ref()
                .map(|(since, why)| json!({"since": timestamp(*since), "why": why}));
            let about = json!({
                "synced": state.synced, "absent": state.absent, "objects": state.objects, "bytes": state.bytes, "stale": stale,
            });
            (kind.name().to_owned(), about)
        };
        json!({
            "kind": "kubernetes",
            "stale_since": since.map(timestamp),
            "kinds": kinds.iter().map(kind).collect::<serde_json::Map<_, _>>(),
        })
    }
}

fn timestamp(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
