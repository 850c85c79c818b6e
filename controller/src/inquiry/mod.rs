//! `POST /rules` and `POST /analyze`, asked by `culvert routes` and `culvert analyze`: what holds at a Service, and what is wrong or without
//! effect; as it is, or as it would be with some files applied.
//!
//! The model is its follower's alone. That makes a view of it between two changes, at once, and the question is answered of the view, on a
//! thread where it may take its time: changes are served meanwhile.

mod page;
#[cfg(test)]
mod tests;

use culvert_resources::files::{Read, World};
use culvert_resources::model::View;
use tokio::sync::{mpsc, oneshot};

use crate::model::Model;

pub(crate) use page::{LONGEST_QUESTION, Pages};

/// Where questions go.
pub(crate) type Inquiries = mpsc::Sender<Inquiry>;

/// A question about the model, as if these files were applied.
pub(crate) struct Inquiry {
    pub(crate) files: Read,
    pub(crate) answer: oneshot::Sender<View>,
}

/// A queue for questions.
pub(crate) fn inquiries() -> (Inquiries, mpsc::Receiver<Inquiry>) {
    mpsc::channel(1)
}

impl Inquiry {
    /// Answers with a view of the model of `world`.
    pub(crate) fn answer(self, model: &mut Model, world: &World, now: std::time::Instant) {
        let Self { files, answer } = self;
        let view = if files.objects.is_empty() && files.findings.is_empty() {
            model.view(&world.findings)
        } else {
            let tried = world.with(&files);
            model.as_if(&tried.objects, now, |model| model.view(&tried.findings))
        };
        // Whoever asked may have gone.
        let _ = answer.send(view);
    }
}
