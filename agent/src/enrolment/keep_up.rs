//! What the reconciler compares and puts right (see [`Upkeep`](super::upkeep::Upkeep)).

use std::sync::Arc;

use super::{Reconciler, entry::Entry, plan::Phase};
use crate::{
    handover::ports,
    kernel::{Found, Kind},
};
/// Looks between two at the settings of pods' network namespaces, each of which must be entered.
const LOOKS_PER_SETTINGS: u32 = 5;

impl Reconciler {
    /// Compares everything with what is, and puts it right.
    pub(super) fn keep_up(&mut self) {
        let audit = self.kernel().audit();
        let before = std::mem::take(&mut self.upkeep.failed);
        for found in audit.repaired {
            self.upkeep.repaired(found);
        }
        for found in audit.failed {
            self.upkeep.failed(&before, found);
        }
        for (cookie, kind) in audit.pods {
            let by_cookie = |entry: &&Entry| entry.cookie() == Some(cookie);
            let Some(uid) = self.pods.values().find(by_cookie).map(|entry| entry.spec.uid.clone()) else {
                continue;
            };
            self.enrol_again(&uid, kind, &before);
        }
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(LOOKS_PER_SETTINGS) {
            self.restore_settings();
        }
    }

    fn enrol_again(&mut self, uid: &Arc<str>, kind: Kind, before: &[Found]) {
        let Some(entry) = self.pods.get(uid) else { return };
        let is_listener = kind == Kind::Map
            && entry.cookie().is_some_and(|cookie| {
                let kernel = self.kernel();
                kernel.is_enrolled(cookie).unwrap_or(false) && !kernel.listening(cookie).unwrap_or(true)
            });
        let kind = if is_listener { Kind::Listener } else { kind };
        let what = format!("pod {}", entry.spec.name);
        match self.tell_kernel(uid) {
            Ok(()) => self.upkeep.repaired(Found { kind, what }),
            Err(problem) => self.upkeep.failed(
                before,
                Found {
                    kind,
                    what: format!("{what}: {problem}"),
                },
            ),
        }
    }

    /// Settings that the way in made, and that something in the pod may have undone.
    fn restore_settings(&mut self) {
        let captured = self.pods.values().filter(|entry| entry.phase == Phase::Captured);
        let changed: Vec<String> = captured
            .filter(|entry| !self.is_self_listening() && entry.listeners.is_some())
            .filter_map(|entry| {
                let place = entry.place.as_ref()?;
                let restored = place.netns.run(ports::restore);
                matches!(restored, Ok(Ok(true))).then(|| format!("pod {}", entry.spec.name))
            })
            .collect();
        for what in changed {
            let kind = Kind::Sysctl;
            self.upkeep.repaired(Found { kind, what });
        }
    }
}
