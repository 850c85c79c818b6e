//! What would be if the objects were others.

use std::time::Instant;

use culvert_objects::{Findings, Objects};

use super::Model;
use crate::snapshot::Snapshot;

/// What other objects would be derived to.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The resources.
    pub snapshot: Snapshot,
    /// What would be wrong.
    pub findings: Findings,
}

impl Model {
    /// What `objects` would be derived to. It costs what a change to them and back costs, and leaves the model as it was.
    ///
    /// [`Self::update`] must have been called with the same `now` before: what is due by then is not looked at here, and
    /// would be lost. Neither nodes nor pods may differ, since the model remembers more of them than their objects.
    pub fn preview(&mut self, objects: &Objects, now: Instant) -> Preview {
        self.as_if(objects, now, |model| Preview {
            snapshot: model.snapshot.clone(),
            findings: model.findings.clone(),
        })
    }

    /// What a model of `objects` says to `ask`. What holds for [`Self::preview`] holds here.
    pub fn as_if<T>(&mut self, objects: &Objects, now: Instant, ask: impl FnOnce(&Self) -> T) -> T {
        let current = self.objects.clone();
        self.update(objects, now);
        let said = ask(self);
        self.update(&current, now);
        said
    }
}
