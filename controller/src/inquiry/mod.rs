//! `POST /rules` and `POST /analyze`, asked by `culvert routes` and `culvert analyze`: what holds at a Service, and what is wrong or without
//! effect; as it is, or as it would be with some files applied.
//!
//! The model is its follower's alone, which answers between two changes.

mod page;
#[cfg(test)]
mod tests;

use culvert_objects::Findings;
use culvert_resources::files::{Read, World};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::model::Model;

pub(crate) use page::{LONGEST_QUESTION, analyze, rules};

/// Where questions go to be answered.
pub(crate) type Inquiries = mpsc::Sender<Inquiry>;

/// What is asked of a model, and of what is wrong with its objects by themselves.
pub(crate) type Ask = Box<dyn FnOnce(&Model, &Findings) -> Value + Send>;

/// A question to the model, as if these files were applied.
pub(crate) struct Inquiry {
    pub(crate) files: Read,
    pub(crate) ask: Ask,
    pub(crate) answer: oneshot::Sender<Value>,
}

/// A queue for questions. One at a time is answered.
pub(crate) fn inquiries() -> (Inquiries, mpsc::Receiver<Inquiry>) {
    mpsc::channel(1)
}

impl Inquiry {
    /// Answers by a model of `world`.
    pub(crate) fn answer(self, model: &mut Model, world: &World, now: std::time::Instant) {
        let Self { files, ask, answer } = self;
        let said = if files.objects.is_empty() && files.findings.is_empty() {
            ask(model, &world.findings)
        } else {
            let tried = world.with(&files);
            model.as_if(&tried.objects, now, |model| ask(model, &tried.findings))
        };
        // Whoever asked may have gone.
        let _ = answer.send(said);
    }
}
