//! Derives the newest state: objects from the source, and the resources that the model makes of them.

use std::sync::Arc;
use std::time::Instant;

use culvert_objects::{Finding, Findings, Loaded};
use culvert_xds::Change;
use tokio::sync::watch;

use crate::model::Model;
use crate::monitor::ModelMetrics;
use crate::state::State;

/// What is called with the changes of a state, after the state has been published.
pub(crate) type OnChange = Box<dyn Fn(&[Change]) + Send>;

/// Keeps the state up to date with the source.
pub(crate) struct Follow {
    model: Model,
    /// What the source says.
    loaded: Arc<Loaded>,
    metrics: ModelMetrics,
    on_change: OnChange,
    pub(crate) state: watch::Sender<Arc<State>>,
}

impl Follow {
    /// A state of generation 0, which is nothing.
    pub(crate) fn new(metrics: ModelMetrics, on_change: OnChange) -> Self {
        Self {
            model: Model::default(),
            loaded: Arc::default(),
            metrics,
            on_change,
            state: watch::Sender::new(Arc::default()),
        }
    }

    /// Derives by `model` from now on, and the first state at once if the source knows all.
    pub(crate) fn begin(&mut self, model: Model, changes: &mut watch::Receiver<Arc<Loaded>>) {
        self.model = model;
        self.take(changes);
    }

    /// Follows until the source is no longer followed, which is never.
    pub(crate) async fn follow(&mut self, mut changes: watch::Receiver<Arc<Loaded>>) {
        loop {
            let next = self.model.next();
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { break },
                () = sleep_until(next), if next.is_some() => {}
            }
            self.take(&mut changes);
        }
        tracing::error!("changes of the configuration are no longer noticed");
        std::future::pending().await
    }

    fn take(&mut self, changes: &mut watch::Receiver<Arc<Loaded>>) {
        self.loaded = Arc::clone(&changes.borrow_and_update());
        // Nothing is served before all kinds are known.
        if self.loaded.generation > 0 {
            self.apply();
        }
    }

    fn apply(&mut self) {
        let before = Arc::clone(&self.state.borrow());
        let changes = self.model.update(&self.loaded.objects, Instant::now());
        let mut findings = self.loaded.findings.clone();
        for finding in self.model.findings().keys() {
            findings.insert(Arc::clone(finding), ());
        }
        log_findings(&before.loaded.findings, &findings);
        tracing::info!(
            generation = self.loaded.generation,
            objects = self.loaded.objects.len(),
            updated = changes.resources.len() - changes.removed,
            removed = changes.removed,
            derived = changes.derived,
            "configuration"
        );
        let mut placement = before.placement.clone();
        placement.update(&before.loaded.objects, &self.loaded.objects);
        let state = State {
            loaded: Arc::new(Loaded {
                objects: self.loaded.objects.clone(),
                findings,
                generation: self.loaded.generation,
            }),
            snapshot: self.model.snapshot().clone(),
            placement,
        };
        self.metrics.set(&state, &changes);
        self.state.send_replace(Arc::new(state));
        if !changes.resources.is_empty() {
            (self.on_change)(&changes.resources);
        }
    }
}

async fn sleep_until(time: Option<Instant>) {
    if let Some(time) = time {
        tokio::time::sleep_until(time.into()).await;
    }
}

fn log_findings(before: &Findings, now: &Findings) {
    let same = |(): &(), (): &()| true;
    before.diff(now, same, |finding: &Arc<Finding>, was, _| match was {
        None => tracing::warn!(%finding, "wrong in the configuration"),
        Some(()) => tracing::info!(%finding, "no longer wrong"),
    });
}
