//! `POST /policy-test`, asked by `culvert policy test`: which connections would policies refuse that are not applied yet?
//!
//! ```text
//! culvert ── manifests, connections ──> page ── objects ──> Follow: Model::preview ── Outlook ──> judge ──> verdicts
//! ```
//!
//! `page` reads the question and writes the answer, `judge` asks the policies of one moment about a connection. The model is
//! its follower's alone, which previews between two changes.

mod judge;
mod page;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use culvert_objects::{Finding, Object, Objects};
use tokio::sync::{mpsc, oneshot};

use crate::snapshot::Snapshot;

pub(crate) use page::{LONGEST_QUESTION, answer};

/// Where trials go to be carried out.
pub(crate) type Trials = mpsc::Sender<Trial>;

/// Objects that are to be tried, and who waits for what becomes of it.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) objects: Vec<Object>,
    pub(crate) answer: oneshot::Sender<Outlook>,
}

/// What is, and what would be.
#[derive(Debug)]
pub(crate) struct Outlook {
    pub(crate) now: Moment,
    pub(crate) then: Moment,
    /// What would be wrong then and is not now.
    pub(crate) findings: Vec<Arc<Finding>>,
}

/// Objects, and the resources made of them.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) objects: Objects,
    pub(crate) snapshot: Snapshot,
}

/// A queue for trials. One at a time is carried out.
pub(crate) fn trials() -> (Trials, mpsc::Receiver<Trial>) {
    mpsc::channel(1)
}
