//! What the reconciler tells of pods' guards: what they dropped, and where there is none.

use std::sync::Arc;

use super::{Reconciler, entry::explain, plan::Phase};

/// Why no pod is guarded with a proxy that does not say which ports are strict.
const NOT_TOLD: &str = "its link is not guarded: the proxy does not say which of its ports are strict, so that nothing but the proxy \
                        keeps connections without a certificate from it";

impl Reconciler {
    /// Looks into pods' namespaces for what is worth knowing, and tries again to guard those that are not.
    pub(super) fn inspect(&mut self) {
        let is_guarding = self.abilities().guards;
        let uids: Vec<Arc<str>> = self.pods.keys().cloned().collect();
        for uid in uids {
            let unguarded = if is_guarding { self.guard_problem(&uid) } else { None };
            if let Some(entry) = self.pods.get_mut(&uid) {
                entry.unguarded.clone_from(&unguarded);
                let why = |problem| format!("its link is not guarded: {problem}");
                entry.inspect(match is_guarding {
                    true => unguarded.map(why),
                    false => Some(NOT_TOLD.to_owned()),
                });
            }
        }
    }

    /// Why a captured pod is not guarded, also at a second attempt.
    fn guard_problem(&mut self, uid: &Arc<str>) -> Option<String> {
        let captured = self.pods.get(uid).filter(|entry| entry.phase == Phase::Captured);
        let cookie = captured?.cookie()?;
        let problem = |reconciler: &Self| reconciler.kernel().guard_status(cookie).unwrap_or_default().problem;
        problem(self)?;
        if let Err(problem) = self.tell_kernel(uid) {
            self.complain(uid, problem);
        }
        problem(self)
    }

    /// Logs what guards have dropped since the last look: a line for each pod that had any.
    pub(super) fn log_dropped(&self) {
        let dropped = match self.kernel().newly_dropped() {
            Ok(dropped) => dropped,
            Err(error) => return tracing::error!(error = explain(&error), "cannot read what guards have dropped"),
        };
        for dropped in dropped {
            let (source, port) = dropped.last.unzip();
            let source = source.map(tracing::field::display);
            tracing::warn!(
                target: "kernel",
                pod = dropped.pod,
                attempts = dropped.count,
                source,
                port,
                "dropped connections past the tunnel to a strict port; source and port are those of the last"
            );
        }
    }
}
