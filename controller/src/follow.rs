//! The newest state: objects from the source, and the resources that the model makes of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use culvert_objects::{Finding, Loaded};
use culvert_proto::ADDRESS_TYPE;
use culvert_xds::Change;
use tokio::sync::watch;

use crate::model::{Model, Settings};
use crate::monitor::ModelMetrics;
use crate::state::State;

/// What is called with the changes of a state, after the state has been published.
pub(crate) type OnChange = Box<dyn Fn(&[Change]) + Send>;

/// Keeps the state up to date with the source.
pub(crate) struct Follow {
    model: Model,
    findings: BTreeSet<Finding>,
    metrics: ModelMetrics,
    on_change: OnChange,
    pub(crate) state: watch::Sender<Arc<State>>,
}

impl Follow {
    /// A state of generation 0, which is nothing.
    pub(crate) fn new(settings: Settings, metrics: ModelMetrics, on_change: OnChange) -> Self {
        Self {
            model: Model::new(settings),
            findings: BTreeSet::new(),
            metrics,
            on_change,
            state: watch::Sender::new(Arc::default()),
        }
    }

    /// Follows until the source is no longer followed, which is never.
    pub(crate) async fn follow(&mut self, mut changes: watch::Receiver<Arc<Loaded>>) {
        changes.mark_changed();
        while changes.changed().await.is_ok() {
            let loaded = Arc::clone(&changes.borrow_and_update());
            // Half a world is served to nobody.
            if loaded.generation > 0 {
                self.apply(loaded);
            }
        }
        tracing::error!("changes of the configuration are no longer noticed");
        std::future::pending().await
    }

    fn apply(&mut self, loaded: Arc<Loaded>) {
        let changes = self.model.update(&loaded.objects);
        let findings: BTreeSet<Finding> = loaded.findings.iter().cloned().collect();
        for finding in findings.difference(&self.findings) {
            tracing::warn!(%finding, "wrong in the configuration");
        }
        for finding in self.findings.difference(&findings) {
            tracing::info!(%finding, "no longer wrong");
        }
        self.findings = findings;
        let (updated, removed) = (changes.updated.len(), changes.removed.len());
        tracing::info!(
            generation = loaded.generation,
            objects = loaded.objects.len(),
            updated,
            removed,
            "configuration"
        );
        let state = State {
            loaded,
            snapshot: self.model.snapshot().clone(),
        };
        self.metrics.set(&state);
        let before = self.state.send_replace(Arc::new(state));
        let snapshots = [&before.snapshot, self.model.snapshot()];
        let change = |name: &String| Change {
            type_url: ADDRESS_TYPE,
            name: name.as_str().into(),
            keys: snapshots
                .iter()
                .flat_map(|snapshot| snapshot.keys(name))
                .map(Into::into)
                .collect(),
        };
        let told: Vec<Change> = changes.updated.iter().chain(&changes.removed).map(change).collect();
        (self.on_change)(&told);
    }
}
