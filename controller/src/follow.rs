//! Derives the newest state: objects from the source, and the resources that the model makes of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use culvert_objects::{Finding, Findings, Loaded, Object, Objects, Severity};
use culvert_resources::files::World;
use culvert_xds::Change;
use tokio::sync::{mpsc, watch};

use crate::inquiry::Inquiry;
use crate::model::{Model, Refusal, Refused};
use crate::monitor::ModelMetrics;
use crate::policy_test::{Moment, Outlook, Trial};
use crate::state::State;
use culvert_resources::keys::{Fetched, Source};

/// What is called with the changes of a state, after the state has been published.
pub(crate) type OnChange = Box<dyn Fn(&[Change]) + Send>;

/// What somebody wants of the model.
enum Asked {
    Nothing,
    Trial(Trial),
    Inquiry(Inquiry),
}

/// Keeps the state up to date with the source.
pub(crate) struct Follow {
    model: Model,
    /// What the source says.
    loaded: Arc<Loaded>,
    /// What proxies refuse of what they were told.
    refusals: Arc<BTreeSet<Refusal>>,
    metrics: ModelMetrics,
    on_change: OnChange,
    /// From where keys of tokens are to be fetched.
    pub(crate) sources: watch::Sender<BTreeSet<Source>>,
    pub(crate) state: watch::Sender<Arc<State>>,
}

impl Follow {
    /// A state of generation 0, which is nothing.
    pub(crate) fn new(metrics: ModelMetrics, on_change: OnChange) -> Self {
        Self {
            model: Model::default(),
            loaded: Arc::default(),
            refusals: Arc::default(),
            metrics,
            on_change,
            sources: watch::Sender::default(),
            state: watch::Sender::new(Arc::default()),
        }
    }

    /// Derives by `model` from now on, and the first state at once if the source knows all.
    pub(crate) fn begin(&mut self, model: Model, changes: &mut watch::Receiver<Arc<Loaded>>) {
        self.model = model;
        self.take(changes, Instant::now());
    }

    /// Follows until the source is no longer followed, which is never.
    /// Says of objects what proxies refuse of them, carries out `trials` and answers `inquiries` in between.
    pub(crate) async fn follow(
        &mut self,
        mut changes: watch::Receiver<Arc<Loaded>>,
        mut trials: mpsc::Receiver<Trial>,
        mut inquiries: mpsc::Receiver<Inquiry>,
        mut fetched: watch::Receiver<Fetched>,
        mut refusals: watch::Receiver<Arc<BTreeSet<Refusal>>>,
    ) {
        loop {
            let next = self.model.next();
            let asked = tokio::select! {
                changed = changes.changed() => if changed.is_err() { break } else { Asked::Nothing },
                () = sleep_until(next), if next.is_some() => Asked::Nothing,
                Some(trial) = trials.recv() => Asked::Trial(trial),
                Some(inquiry) = inquiries.recv() => Asked::Inquiry(inquiry),
                // Whoever fetches does so for as long as this follows.
                Ok(()) = fetched.changed() => Asked::Nothing,
                Ok(()) = refusals.changed() => Asked::Nothing,
            };
            // Before the update, which it is part of.
            self.model.set_fetched(fetched.borrow_and_update().clone());
            self.refusals = Arc::clone(&refusals.borrow_and_update());
            // Also before a trial, which must find nothing overdue.
            let now = Instant::now();
            self.take(&mut changes, now);
            match asked {
                Asked::Nothing => {}
                Asked::Trial(trial) => {
                    let outlook = self.outlook(trial.objects, now);
                    // Whoever asked may have gone.
                    let _ = trial.answer.send(outlook);
                }
                Asked::Inquiry(inquiry) => {
                    let mut findings = self.loaded.findings.clone();
                    add(&mut findings, &self.model.refused(&self.refusals));
                    let world = World {
                        objects: self.loaded.objects.clone(),
                        findings,
                    };
                    inquiry.answer(&mut self.model, &world, now);
                }
            }
        }
        tracing::error!("changes of the configuration are no longer noticed");
        std::future::pending().await
    }

    fn take(&mut self, changes: &mut watch::Receiver<Arc<Loaded>>, now: Instant) {
        self.loaded = Arc::clone(&changes.borrow_and_update());
        // Nothing is served before all kinds are known.
        if self.loaded.generation > 0 {
            self.apply(now);
        }
    }

    /// What is, and what would be with these objects as well.
    fn outlook(&mut self, tried: Vec<Object>, now: Instant) -> Outlook {
        let current = self.loaded.objects.clone();
        let mut objects: Objects = current.clone();
        for object in tried {
            objects.insert(object.name(), object);
        }
        let before = self.model.findings().clone();
        let moment = |objects, snapshot| Moment { objects, snapshot };
        let now_is = moment(current, self.model.snapshot().clone());
        let preview = self.model.preview(&objects, now);
        let is_new = |finding: &&Arc<Finding>| before.get(&***finding).is_none();
        Outlook {
            now: now_is,
            then: moment(objects, preview.snapshot),
            findings: preview.findings.keys().filter(is_new).cloned().collect(),
        }
    }

    fn apply(&mut self, now: Instant) {
        let before = Arc::clone(&self.state.borrow());
        let changes = self.model.update(&self.loaded.objects, now);
        self.sources.send_if_modified(|sources| {
            let is_other = sources != self.model.sources();
            if is_other {
                sources.clone_from(self.model.sources());
            }
            is_other
        });
        let mut findings = self.loaded.findings.clone();
        for finding in self.model.findings().keys() {
            findings.insert(Arc::clone(finding), ());
        }
        let refused = self.model.refused(&self.refusals);
        add(&mut findings, &refused);
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
            allocations: self.model.allocations().clone(),
            routes: refused.within(self.model.routes(), &before.routes),
            refused,
            placement,
        };
        self.metrics.set(&state, &changes);
        self.metrics.set_refused(self.refusals.len());
        self.state.send_replace(Arc::new(state));
        if !changes.resources.is_empty() {
            (self.on_change)(&changes.resources);
        }
    }
}

/// Adds what proxies refuse.
fn add(findings: &mut Findings, refused: &Refused) {
    for finding in &refused.findings {
        findings.insert(Arc::new(finding.clone()), ());
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
        None if finding.severity == Severity::Info => tracing::info!(%finding, "in the configuration"),
        None => tracing::warn!(%finding, "wrong in the configuration"),
        Some(()) => tracing::info!(%finding, "no longer wrong"),
    });
}
