//! Clusters that changed, and whose endpoints are on their way: what they were before is in force meanwhile.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::config::{cluster::ClusterConfig, discovery::Discovery};

/// How long a cluster waits for its endpoints: Envoy's default of `initial_fetch_timeout`.
const PATIENCE: Duration = Duration::from_secs(15);

/// What some clusters are to be, by their names. Clones are cheap.
#[derive(Clone, Debug, Default)]
pub struct Warming(Arc<BTreeMap<Arc<str>, Changed>>);

#[derive(Clone, Debug)]
struct Changed {
    config: Arc<ClusterConfig>,
    until: Instant,
}

impl Warming {
    /// Their names, and what each waits for, for people.
    pub fn dump(&self) -> Value {
        let now = Instant::now();
        let one = |(name, changed): (&Arc<str>, &Changed)| {
            let awaited = match &changed.config.discovery {
                Discovery::Told(told) => format!("endpoints `{told}`"),
                Discovery::Named(named) => {
                    let names: Vec<&str> = named.names().map(|name| &**name).collect();
                    format!("addresses of {}", names.join(", "))
                }
                Discovery::Dialled(_) => String::new(),
            };
            let left = changed.until.saturating_duration_since(now);
            let text = json!({ "waits_for": awaited, "for_milliseconds": left.as_millis() as u64 });
            (name.to_string(), text)
        };
        Value::Object(self.0.iter().map(one).collect())
    }

    /// How many there are.
    pub(super) fn count(&self) -> i64 {
        self.0.len() as i64
    }

    /// All of them.
    pub(super) fn configs(&self) -> impl Iterator<Item = &Arc<ClusterConfig>> {
        self.0.values().map(|changed| &changed.config)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<ClusterConfig>> {
        self.0.get(name).map(|changed| &changed.config)
    }

    /// A cluster is to be this, rather than what was to be before. Its time begins anew.
    pub(super) fn put(&mut self, config: ClusterConfig, now: Instant) {
        let changed = Changed {
            config: Arc::new(config),
            until: now + PATIENCE,
        };
        Arc::make_mut(&mut self.0).insert(Arc::clone(&changed.config.name), changed);
    }

    /// A cluster waits no longer.
    pub(super) fn take(&mut self, name: &str) -> Option<ClusterConfig> {
        if !self.0.contains_key(name) {
            return None;
        }
        let changed = Arc::make_mut(&mut self.0).remove(name);
        changed.map(|changed| Arc::unwrap_or_clone(changed.config))
    }

    /// Those whose time is over.
    pub(super) fn late(&self, now: Instant) -> Vec<Arc<str>> {
        let late = self.0.iter().filter(|(_, changed)| changed.until <= now);
        late.map(|(name, _)| Arc::clone(name)).collect()
    }
}
