//! What an earlier agent left in the kernel, and when it may go.
//!
//! An agent finds pods captured by the programs that it adopted, which it carries on with, and perhaps by programs of
//! another version (another layout of the maps, or other sizes), which capture until this agent does. Two things are thrown
//! away, each once:
//! - capture of pods that are not wanted any more: as soon as the whole list of pods is known. A pod whose namespace could
//!   not be opened has no cookie to be known by; it is known by its addresses, and stays captured;
//! - programs of other versions: when every wanted pod is captured by this agent's, is captured by none of theirs, or is
//!   proven gone. Until then both are in force, and a pod goes from one to the other without a moment in plaintext.

use std::collections::HashSet;

use super::{
    Reconciler,
    entry::{Entry, explain},
    plan::Phase,
};
use crate::{kernel::KernelError, source::PodName};

/// How far it has come.
#[derive(Debug, Default)]
pub(super) struct Takeover {
    /// The source says that it knows all pods.
    pub(super) is_complete: bool,
    is_collected: bool,
    is_alone: bool,
    /// Programs of other versions stay because of these.
    waiting: Vec<PodName>,
    /// Said last.
    problem: Option<String>,
}

impl Takeover {
    /// Whether there may be something left to throw away.
    pub(super) fn is_pending(&self) -> bool {
        !(self.is_collected && self.is_alone)
    }

    /// Why programs of other versions are still in force, in words.
    pub(super) fn problem(&self) -> Option<String> {
        match (&self.problem, self.waiting.as_slice()) {
            (Some(problem), _) => Some(format!("cannot remove what an earlier agent left: {problem}")),
            (None, []) => None,
            (None, [first, rest @ ..]) => Some(format!(
                "programs of another version stay in force: pod {first}{} not captured by this one yet",
                match rest.len() {
                    0 => " is".to_owned(),
                    more => format!(" and {more} more are"),
                }
            )),
        }
    }
}

impl Reconciler {
    /// Throws away what may go by now.
    pub(super) fn take_over(&mut self) {
        if !self.ready || !self.takeover.is_complete || !self.takeover.is_pending() {
            return;
        }
        let outcome = self.collect().and_then(|()| self.remove_other_versions());
        let problem = outcome.err().map(|error| explain(&error));
        if let Some(problem) = &problem
            && self.takeover.problem.as_ref() != Some(problem)
        {
            tracing::error!(problem, "cannot throw away what an earlier agent left behind");
        }
        self.takeover.problem = problem;
    }

    /// Ends capture of pods that an earlier agent enrolled and that are no longer wanted.
    fn collect(&mut self) -> Result<(), KernelError> {
        if self.takeover.is_collected {
            return Ok(());
        }
        let mut keep: HashSet<u64> = self.pods.values().filter_map(Entry::cookie).collect();
        for entry in self.pods.values().filter(|entry| entry.cookie().is_none()) {
            keep.extend(self.kernel().holders(&entry.spec.addresses)?);
        }
        let gone = self.kernel().collect(&keep)?;
        self.takeover.is_collected = true;
        if !gone.is_empty() {
            tracing::info!(
                pods = gone.len(),
                "capture ended for pods that an earlier agent had enrolled"
            );
        }
        Ok(())
    }

    fn remove_other_versions(&mut self) -> Result<(), KernelError> {
        if self.takeover.is_alone {
            return Ok(());
        }
        if self.kernel().other_versions()? == 0 {
            self.takeover.is_alone = true;
            return Ok(());
        }
        let mut waiting = Vec::new();
        for entry in self.pods.values() {
            if self.needs_other_versions(entry)? {
                waiting.push(entry.spec.name.clone());
            }
        }
        if waiting.is_empty() {
            self.kernel().remove_other_versions()?;
            self.takeover.is_alone = true;
        } else if self.takeover.waiting.is_empty() {
            tracing::info!(pods = waiting.len(), first = %waiting[0], "programs of another version capture until these ones do");
        }
        self.takeover.waiting = waiting;
        Ok(())
    }

    /// Whether a pod would be in plaintext without programs of other versions.
    fn needs_other_versions(&self, entry: &Entry) -> Result<bool, KernelError> {
        if matches!(entry.phase, Phase::Captured | Phase::Leaving) {
            return Ok(false);
        }
        match entry.last_cookie() {
            Some(cookie) => self.kernel().is_captured_by_others(cookie),
            None => Ok(!entry.is_gone_for_good()),
        }
    }
}
