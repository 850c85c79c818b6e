//! What the reconciler tells of pods' guards: what they dropped, and where there is none.

use std::sync::{Arc, PoisonError};

use super::{Reconciler, entry::explain};

/// Why no pod is guarded with a proxy that does not say which ports are strict.
const NOT_TOLD: &str = "its link is not guarded: the proxy does not say which of its ports are strict, so that nothing but the proxy \
                        keeps connections without a certificate from it";

impl Reconciler {
    /// Looks into pods' namespaces for what is worth knowing.
    pub(super) fn inspect(&mut self) {
        let is_guarding = self.abilities().guards;
        let kernel = Arc::clone(&self.kernel);
        for entry in self.pods.values_mut() {
            let problem = match is_guarding {
                true => entry.cookie().and_then(|cookie| {
                    let kernel = kernel.lock().unwrap_or_else(PoisonError::into_inner);
                    let status = kernel.guard_status(cookie).unwrap_or_default();
                    Some(format!("its link is not guarded: {}", status.problem?))
                }),
                false => Some(NOT_TOLD.to_owned()),
            };
            entry.inspect(problem);
        }
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
