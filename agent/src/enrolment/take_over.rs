//! What the reconciler throws away of earlier agents, and when (see [`Takeover`](super::takeover::Takeover)).

use std::collections::HashSet;

use super::{
    Reconciler,
    entry::{Entry, explain},
    plan::Phase,
};
use crate::kernel::KernelError;

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
